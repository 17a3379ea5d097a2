"""What is asked again and again is asked of the releases that are held warm, too, a little at a
time, so that the one that takes over knows its answers.

An epoch begins with an empty cache: right after a switch every question would be a miss, and
a line would build up just when people look. The answers here are made by the release that is
to serve, from nobody's cache, and live no longer than a cached one.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from ebbtide.entrypoints.gateway import joint
from ebbtide.entrypoints.gateway.answering import Reply, aside
from ebbtide.entrypoints.gateway.live import MadeAhead
from ebbtide.entrypoints.gateway.recurring import Question, Recurring
from ebbtide.entrypoints.gateway.warm import Warm

_AT_ONCE = 32
"""Questions in one go, where serving code may be asked several at once: few goes, soon over."""
_SHARE = 0.1
"""Of one processor at most, unless the release is about to serve."""
_LASTS = 300.0
"""Seconds for which an answer may be given at most. After half of them it is asked for anew."""
_LATER = 2.0
"""Seconds after which the questions are asked of a release that was set aside, which is what a
saga leaves just when it still has much to prove."""
_WITHIN = 0.25
"""Seconds that a switch to a release that was just loaded waits for it at most."""
_LONGEST = 64 * 1024
"""Bytes of an answer that is kept."""
_LOOK = 1.0


@dataclass
class _Part:
    """A release that is held warm, and what it answered."""

    warm: Warm
    since: float = field(default_factory=time.monotonic)
    answers: dict[str, MadeAhead] = field(default_factory=dict)
    """By cache key; an empty body: it refuses the question, or says too much."""
    asked_all: bool = False

    @property
    def is_awaited(self) -> bool:
        return not self.asked_all and time.monotonic() <= self.since + _WITHIN

    @property
    def is_settled(self) -> bool:
        return time.monotonic() >= self.since + _LATER


class Rehearsal:
    """Asks in a thread of its own. A release that hangs keeps it from asking the others."""

    def __init__(self, recurring: Recurring, *, together: bool, ttl: float) -> None:
        """`together`: the serving code answers each row by itself. `ttl`: a cached answer's."""
        self._recurring = recurring
        self._lasts = min(ttl, _LASTS)
        self._size = _AT_ONCE if together else 1
        self._parts: Mapping[str, _Part] = {}
        self._candidate = ""
        self._wake = threading.Event()
        self._closing = False
        self._ended: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="rehearsal", daemon=True)

    def start(self, ended: Callable[[], None]) -> None:
        """`ended` is called when a release has been asked everything for the first time."""
        self._ended = ended
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    def follow(self, held: Mapping[str, Warm], candidate: str) -> None:
        """Ask these releases, by id, from now on; the candidate first."""
        before = self._parts
        stay = {one: part for one, part in before.items() if held.get(one) is part.warm}
        if candidate == self._candidate and stay.keys() == before.keys() == held.keys():
            return
        self._parts = {one: stay.get(one) or _Part(warm) for one, warm in held.items()}
        self._candidate = candidate
        self._wake.set()

    @property
    def awaited(self) -> str:
        """The candidate, while a switch to it should wait; empty: there is none to wait for."""
        part = self._parts.get(self._candidate)
        return self._candidate if part and part.is_awaited else ""

    def answers(self, release: str) -> Mapping[str, MadeAhead]:
        """What a release that takes over has answered lately, by cache key."""
        part = self._parts.get(release)
        made = part.answers.copy() if part else {}
        return {key: answer for key, answer in made.items() if answer.body}

    def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            questions = self._recurring.newest_first()
            candidate = self._parts.get(self._candidate)
            if candidate and candidate.is_awaited:
                self._go(candidate, questions)
                continue
            settled = [part for part in self._parts.values() if part.is_settled]
            took = sum(self._go(part, questions) for part in settled)
            self._wake.wait(took / _SHARE if took else _LOOK)

    def _go(self, part: _Part, questions: Sequence[Question]) -> float:
        """Ask a few of the questions that are due; how many seconds of a processor it took."""
        soon, none = time.monotonic() + self._lasts / 2, MadeAhead(b"", 0.0)
        due = [each for each in questions if part.answers.get(each.key, none).until < soon]
        if not due:
            if not part.asked_all:
                part.asked_all = True
                self._ended()
            return 0.0
        began = time.thread_time()
        for question, body in _answered(part.warm, due[: self._size]):
            part.answers[question.key] = MadeAhead(body, time.monotonic() + self._lasts)
        if len(part.answers) > 2 * len(questions):
            wanted = {each.key for each in questions}
            part.answers = {key: made for key, made in part.answers.items() if key in wanted}
        return time.thread_time() - began


def _answered(warm: Warm, questions: Sequence[Question]) -> list[tuple[Question, bytes]]:
    """Bodies of responses; empty where the release refuses: a client will be told why it does."""
    tasks: list[tuple[Future[Reply], joint.Work]] = [
        (Future(), aside(warm, each.content_type, each.body)) for each in questions
    ]
    joint.answer(tasks)
    bodies = [b"" if future.exception() else future.result().body for future, _ in tasks]
    return [
        (each, body if len(body) <= _LONGEST else b"")
        for each, body in zip(questions, bodies, strict=True)
    ]
