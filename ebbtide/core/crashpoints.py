"""Named places where a test may kill or stop this process.

`EBBTIDE_CRASH_AT=route.switch/do/effect-done` kills at the first time that this
point is reached, `...#3` at the third time, and `#12` at the twelfth point,
whichever it is. `EBBTIDE_STOP_AT` stops (SIGSTOP) instead: a process that hangs
and wakes later. `EBBTIDE_POINTS` names a file into which every point that is
reached is written, a line each. Nothing happens where none of them is set.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

VARIABLE = "EBBTIDE_CRASH_AT"
STOP = "EBBTIDE_STOP_AT"
TOLD = "EBBTIDE_POINTS"

_reached: Counter[str] = Counter()
_watcher: ContextVar[Callable[[str], None] | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Within, `watcher` is told every point that this thread reaches; what it raises goes on."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


def reach(point: str) -> None:
    """Die or stop here where this is the point that was asked for."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(point)
    at, stop, told = (os.environ.get(name, "") for name in (VARIABLE, STOP, TOLD))
    if not (at or stop or told):
        return
    if told:
        with Path(told).open("a") as file:
            file.write(f"{point}\n")
    _reached[point] += 1
    here = {f"#{_reached.total()}", f"{point}#{_reached[point]}"}
    if _reached[point] == 1:
        here.add(point)
    if at in here:
        os.kill(os.getpid(), signal.SIGKILL)
    if stop in here:
        os.kill(os.getpid(), signal.SIGSTOP)
