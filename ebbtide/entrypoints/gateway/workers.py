"""A few threads for one release's model work.

Each release has its own, so that a release whose code hangs cannot keep the next
one from answering. The threads are daemons: one that hangs does not hold the
process up either, as those of `concurrent.futures` would.
"""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

SIZE = max(2, os.cpu_count() or 2)


_Task = tuple[Future[Any], Callable[[], Any]]
Together = Callable[[Sequence[_Task]], None]
"""Fulfils several pieces of work at once, whatever any of them raises."""
_Work = tuple[Future[Any], Callable[[], Any], Together | None]
_AT_ONCE = 64
"""Pieces of work that are taken together at most."""


class Closed(Exception):
    """These workers take no more work."""


class Workers:
    """Runs what is submitted, in order of arrival; what is to go ahead first."""

    def __init__(self, name: str, size: int = SIZE) -> None:
        self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """True: there is work in one of the two lines. False: a thread is to end."""
        self._line: deque[_Work] = deque()
        self._ahead: deque[_Work] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self.in_flight = 0
        """Kept by the one thread that submits and waits."""
        self._size = size
        for n in range(size):
            threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True).start()

    def submit(
        self, work: Callable[[], T], *, ahead: bool = False, together: Together | None = None
    ) -> Future[T]:
        """Raises `Closed` once `close` was called. `ahead`: before all that waits in line.

        `together`: may be done along with what waits next to it and says the same.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise Closed
            (self._ahead if ahead else self._line).append((future, work, together))
            self._tickets.put(True)
        return future

    def close(self) -> None:
        """Finish what was submitted, then end. Does not wait."""
        with self._lock:
            self._closed = True
            for _ in range(self._size):
                self._tickets.put(False)

    def _run(self) -> None:
        while self._tickets.get():
            taken = self._next()
            wanted = [work for work in taken if work[0].set_running_or_notify_cancel()]
            together = wanted[0][2] if len(wanted) > 1 else None
            if together is not None:
                _fulfil_all(together, [(future, work) for future, work, _ in wanted])
            else:
                for future, work, _ in wanted:
                    _fulfil(future, work)
                    del future, work
            del taken, wanted

    def _next(self) -> list[_Work]:
        """What is to be done next; nothing where another thread took it along."""
        with self._lock:
            if self._ahead:
                return [self._ahead.popleft()]
            share = min(_AT_ONCE, -(-len(self._line) // self._size))
            taken = [self._line.popleft()] if self._line else []
            while len(taken) < share and _joins(taken[0], self._line[0]):
                taken.append(self._line.popleft())
            return taken


def _joins(first: _Work, other: _Work) -> bool:
    return first[2] is not None and first[2] is other[2]


def _fulfil_all(together: Together, tasks: Sequence[_Task]) -> None:
    try:
        together(tasks)
    except BaseException as fault:  # noqa: BLE001 - the thread goes on, and nobody waits in vain
        for future, _ in tasks:
            if not future.done():
                future.set_exception(fault)


def _fulfil(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as fault:  # noqa: BLE001 - a user's `sys.exit` must not end the thread
        future.set_exception(fault)
    else:
        future.set_result(result)
