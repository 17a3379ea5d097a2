"""Questions that come again and again: those that the cache answered."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

_KEPT = 1000
"""Questions at most."""
_KEPT_BYTES = 8 * 1024 * 1024
_LONGEST = 64 * 1024
"""Bytes of all bodies, and of one."""
_LATELY = 600.0
"""Seconds after which a question that has not come again is nobody's any more."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the key that its answer is cached by."""

    key: str
    content_type: str
    body: bytes


class Recurring:
    """The newest of them. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Question, float]] = OrderedDict()
        """With when each came last."""
        self._bytes = 0

    def note(self, question: Question) -> None:
        """It has come again."""
        if len(question.body) > _LONGEST:
            return
        with self._lock:
            if question.key not in self._kept:
                self._bytes += len(question.body)
            self._kept[question.key] = (question, time.monotonic())
            self._kept.move_to_end(question.key)
            while len(self._kept) > _KEPT or self._bytes > _KEPT_BYTES:
                self._forget_oldest()

    def newest_first(self) -> list[Question]:
        """Those that came lately."""
        late = time.monotonic() - _LATELY
        with self._lock:
            while self._kept and next(iter(self._kept.values()))[1] < late:
                self._forget_oldest()
            return [question for question, _ in reversed(self._kept.values())]

    def _forget_oldest(self) -> None:
        _, (oldest, _) = self._kept.popitem(last=False)
        self._bytes -= len(oldest.body)
