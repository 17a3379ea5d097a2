"""Other people's programs: run in a group of their own, with a time limit, to the last process.

POSIX. On Linux also processes that have left their group are ended; elsewhere
those that are still below the program.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ebbtide.adapters.process import guard

_TAIL = 30
"""Lines that are kept of what a program printed last."""
_LONGEST = 2_000
"""Characters of a line that are kept."""
_LOOK = 0.5
_PATIENCE = 40.0
"""Seconds for the guard to end all: longer than its own patience."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    code: int
    """128 + n where a signal n ended it."""
    in_time: bool
    """False: it was ended because it took too long."""
    last: tuple[str, ...]
    """The last lines of what it printed."""


def run_guarded(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    within: float,
    tell: Callable[[str], None],
    keep: Collection[int] = (),
) -> Ended:
    """Run a program to its end, and tell each line that it prints.

    However this ends, also by a SIGKILL of this process, nothing that the
    program started goes on. `within`: seconds. `keep`: file descriptors that
    stay open until then, such as of a lock. Raises OSError where it cannot start.
    """
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(guard.__file__), str(os.getpid()), *command],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=tuple(keep),
        start_new_session=True,
        bufsize=0,
    )
    last: deque[str] = deque(maxlen=_TAIL)
    until = time.monotonic() + within
    try:
        for line in _lines(child, until):
            last.append(line)
            tell(line)
        in_time = time.monotonic() < until or _has_ended(child)
    finally:
        _end(child)
    code = child.returncode
    return Ended(code if code >= 0 else 128 - code, in_time, tuple(last))


def _lines(child: "subprocess.Popen[bytes]", until: float) -> Iterator[str]:
    """What it prints, line by line, until it has ended or the time is over."""
    assert child.stdout is not None
    held, file = b"", child.stdout.fileno()
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([file], [], [], min(left, _LOOK))
        piece = os.read(file, 65536) if ready else b""
        # A process that got away may hold the pipe open after the guard has ended.
        if not piece and (ready or _has_ended(child)):
            break
        *whole, held = (held + piece).split(b"\n")
        held = held[-_LONGEST * 4 :]
        yield from filter(None, map(_shown, whole))
    if text := _shown(held):
        yield text


def _shown(line: bytes) -> str:
    """As a terminal would show it: what a carriage return has overwritten is gone."""
    text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return "".join(sign for sign in plain if sign.isprintable() or sign == "\t")[:_LONGEST].rstrip()


def _has_ended(child: "subprocess.Popen[bytes]") -> bool:
    """Looks without reaping: the group's number must not be given away before it is ended."""
    if child.returncode is not None:
        return True
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Let the guard end everything; where the guard itself was killed, end its group."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    until = time.monotonic() + _PATIENCE
    while not _has_ended(child) and time.monotonic() < until:
        time.sleep(0.01)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait()
