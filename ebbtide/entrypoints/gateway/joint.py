"""Requests that wait for the same release, asked of it in one call.

A model that answers four rows answers forty in hardly more time, so a line that
builds up after a switch, when no answer is cached yet, is gone at once. Only for
serving code that answers each row by itself, which its owner declares.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ebbtide.adapters.loading.release import LoadedRelease
from ebbtide.entrypoints.gateway.protocol import Question

_log = logging.getLogger(__name__)

_ROWS = 256
"""Rows of one joint call: a larger request is asked by itself."""

Steps = Generator[Question, list[Any], Any]
"""A request's work: it gives its question where the release must be asked, and is sent the
answers or thrown what went wrong."""


@dataclass(frozen=True, slots=True)
class Work:
    """One request to a release. Called, it is answered by itself."""

    loaded: LoadedRelease
    begin: Callable[[], Steps]

    def __call__(self) -> Any:
        steps = self.begin()
        try:
            question = next(steps)
        except StopIteration as end:
            return end.value
        return _alone(self.loaded, steps, question)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that waits for the release's answers."""

    future: Future[Any]
    steps: Steps
    question: Question

    @property
    def rows(self) -> int:
        return len(self.question.rows)


def answer(tasks: Sequence[tuple[Future[Any], Any]]) -> None:
    """Fulfil all of these `Work`s of one release, those that are alike in one call."""
    asked = [found for future, work in tasks if (found := _begun(future, work)) is not None]
    for group in _alike(asked):
        _ask(tasks[0][1].loaded, group)


def _begun(future: Future[Any], work: Work) -> _Asked | None:
    """None where it is answered already: it was cached, or cannot be read."""
    steps = work.begin()
    try:
        return _Asked(future, steps, next(steps))
    except StopIteration as end:
        future.set_result(end.value)
    except BaseException as fault:  # noqa: BLE001 - handed to the one who waits
        future.set_exception(fault)
    return None


def _alike(asked: Sequence[_Asked]) -> list[list[_Asked]]:
    """Groups that may be one table: the same columns of the same types. In order of arrival."""
    groups: list[list[_Asked]] = []
    open_for: dict[Any, list[_Asked]] = {}
    for each in asked:
        form = _form(each.question)
        group = open_for.get(form) if form is not None else None
        if group is None or sum(one.rows for one in group) + each.rows > _ROWS:
            group = []
            groups.append(group)
            if form is not None:
                open_for[form] = group
        group.append(each)
    # Who was asked for little waits for nobody who asks for much.
    return sorted(groups, key=lambda group: sum(one.rows for one in group) > _ROWS)


def _form(question: Question) -> Any:
    """What two questions have in common that may be asked together; None: none may."""
    import pandas as pd

    rows = question.rows
    if question.params or not isinstance(rows, pd.DataFrame) or not len(rows):
        return None
    # An index that the client named would be lost, and serving code may read it.
    if not rows.index.equals(pd.RangeIndex(len(rows))):
        return None
    return (tuple(map(repr, rows.columns)), tuple(rows.dtypes))


def _ask(loaded: LoadedRelease, group: Sequence[_Asked]) -> None:
    answers = _together(loaded, group) if len(group) > 1 else None
    at = 0
    for each in group:
        try:
            if answers is None:
                found = _alone(loaded, each.steps, each.question)
            else:
                found = _go_on(each.steps, answers[at : at + each.rows])
                at += each.rows
        except BaseException as fault:  # noqa: BLE001 - handed to the one who waits
            each.future.set_exception(fault)
        else:
            each.future.set_result(found)


def _together(loaded: LoadedRelease, group: Sequence[_Asked]) -> list[Any] | None:
    """The answers to all rows, one after the other; None: each must be asked by itself."""
    import pandas as pd

    try:
        rows = pd.concat([each.question.rows for each in group], ignore_index=True)
        return loaded.answer(rows)
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - whose fault it is comes out one by one
        _log.debug("%d requests are asked one by one: %r", len(group), fault)
        return None


def _alone(loaded: LoadedRelease, steps: Steps, question: Question) -> Any:
    try:
        answers = loaded.answer(question.rows, question.params)
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - the request's own work tells it
        return _go_on(steps, fault)
    return _go_on(steps, answers)


def _go_on(steps: Steps, given: list[Any] | BaseException) -> Any:
    """What becomes of the request, once the release was asked."""
    try:
        if isinstance(given, BaseException):
            steps.throw(given)
        else:
            steps.send(given)
    except StopIteration as end:
        return end.value
    raise RuntimeError("A request asks a release once.")
