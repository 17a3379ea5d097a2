"""Questions that come again and again: those that the cache answered."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

_KEPT = 1000
"""Questions at most."""
_KEPT_BYTES = 8 * 1024 * 1024
_LONGEST = 64 * 1024
"""Bytes of all bodies, and of one."""


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
        self._kept: OrderedDict[str, Question] = OrderedDict()
        self._bytes = 0

    def note(self, question: Question) -> None:
        """It has come again."""
        if len(question.body) > _LONGEST:
            return
        with self._lock:
            if question.key in self._kept:
                self._kept.move_to_end(question.key)
                return
            self._kept[question.key] = question
            self._bytes += len(question.body)
            while len(self._kept) > _KEPT or self._bytes > _KEPT_BYTES:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.body)

    def newest_first(self) -> list[Question]:
        """All of them, as they are now."""
        with self._lock:
            return [*reversed(self._kept.values())]
