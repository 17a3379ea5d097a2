"""Dying at a named point: in this process by an exception, or in another by SIGKILL.

A death in process is fast enough for thousands of them. Nothing of ebbtide
catches it, so nothing of ours runs after it, as after a kill; what a store
would have left half written on disk only a real kill shows.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ebbtide.core import crashpoints


class Died(BaseException):
    """The process is gone: nothing of it runs any more."""


@dataclass
class Deaths:
    """Where to die, and which points were passed. It dies once; set `at` to have it die again.

    `at` is a point (`route.switch/do/effect-done`), the n-th time of a point
    (`journal/uncommitted#3`) or the n-th point of all (`#12`).
    """

    at: str = ""
    passed: list[str] = field(default_factory=list)
    instead: Callable[[], None] | None = None
    """Called there in place of dying: what another process does at that moment."""
    _times: Counter[str] = field(default_factory=Counter)

    def reached(self, point: str) -> None:
        self.passed.append(point)
        self._times[point] += 1
        if self.at not in {point, f"{point}#{self._times[point]}", f"#{len(self.passed)}"}:
            return
        self.at = ""
        if self.instead is None:
            raise Died(point)
        self.instead()


@contextmanager
def dying(at: str = "", instead: Callable[[], None] | None = None) -> Iterator[Deaths]:
    """Within, this thread dies at a point: `Died` goes through everything."""
    deaths = Deaths(at, instead=instead)
    with crashpoints.watched(deaths.reached):
        yield deaths


def killed_at(point: str, *, stopped: bool = False) -> Mapping[str, str]:
    """The environment in which a process of ebbtide is killed at a point, or stopped there."""
    return {crashpoints.STOP if stopped else crashpoints.VARIABLE: point}
