"""A few threads for one release's model work.

Each release has its own, so that a release whose code hangs cannot keep the next
one from answering. The threads are daemons: one that hangs does not hold the
process up either, as those of `concurrent.futures` would.
"""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

SIZE = max(2, os.cpu_count() or 2)


_Work = tuple[Future[Any], Callable[[], Any]]


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

    def submit(self, work: Callable[[], T], *, ahead: bool = False) -> Future[T]:
        """Raises `Closed` once `close` was called. `ahead`: before all that waits in line."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise Closed
            (self._ahead if ahead else self._line).append((future, work))
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
            future, work = self._next()
            if future.set_running_or_notify_cancel():
                _fulfil(future, work)
            del future, work

    def _next(self) -> "_Work":
        """One for each ticket: there is always one."""
        with self._lock:
            return self._ahead.popleft() if self._ahead else self._line.popleft()


def _fulfil(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as fault:  # noqa: BLE001 - a user's `sys.exit` must not end the thread
        future.set_exception(fault)
    else:
        future.set_result(result)
