"""Requests that wait may be asked in one call; what each is answered is its own all the same."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest

from ebbtide.adapters.loading.release import BadAnswer, LoadedRelease
from ebbtide.entrypoints.gateway import joint
from ebbtide.entrypoints.gateway.protocol import Question
from ebbtide.entrypoints.gateway.workers import Workers

WITHIN = 30.0


@dataclass
class Held:
    """A release with one thread, which is at work until it is told to go on."""

    workers: Workers = field(default_factory=lambda: Workers("test", 1))
    calls: list[list[Any]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def hold(self) -> None:
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            self.go_on.wait(WITHIN)

        self.workers.submit(wait)
        assert begun.wait(WITHIN)

    @property
    def loaded(self) -> LoadedRelease:
        return LoadedRelease("0" * 64, {}, self._predict)

    def _predict(self, rows: pd.DataFrame, params: Mapping[str, Any] | None) -> list[Any]:
        (column,) = rows.columns
        asked = rows[column].to_list()
        self.calls.append(asked)
        if "leave" in asked:
            raise SystemExit(3)
        if -1 in asked:
            raise ValueError(f"{asked} with -1")
        return [float("nan") if each == -2 else f"{each} of {column}" for each in asked]

    def ask(self, question: Question, *, ahead: bool = False) -> Future[Any]:
        def steps() -> joint.Steps:
            return ((yield question), len(question.rows))

        work = joint.Work(self.loaded, steps)
        return self.workers.submit(work, ahead=ahead, together=None if ahead else joint.answer)


@pytest.fixture
def held() -> Iterator[Held]:
    found = Held()
    found.hold()
    yield found
    found.go_on.set()
    found.workers.close()


def asks(*rows: Any, column: str = "x") -> Question:
    return Question(pd.DataFrame({column: list(rows)}))


def answers(futures: Sequence[Future[Any]]) -> list[Any]:
    return [future.result(WITHIN)[0] for future in futures]


def test_what_waits_is_asked_in_one_call_and_each_gets_its_own_rows(held: Held) -> None:
    futures = [held.ask(asks(1)), held.ask(asks(2, 3)), held.ask(asks(4, 5, 6)), held.ask(asks(1))]
    held.go_on.set()
    assert answers(futures) == [
        ["1 of x"],
        ["2 of x", "3 of x"],
        ["4 of x", "5 of x", "6 of x"],
        ["1 of x"],
    ]
    assert held.calls == [[1, 2, 3, 4, 5, 6, 1]]


@pytest.mark.parametrize("fault", [ValueError, BadAnswer, SystemExit])
def test_a_request_that_fails_spoils_no_other(held: Held, fault: type[BaseException]) -> None:
    bad = {ValueError: -1, BadAnswer: -2, SystemExit: "leave"}[fault]
    kind = str if isinstance(bad, str) else int
    futures = [held.ask(asks(kind(1))), held.ask(asks(bad)), held.ask(asks(kind(2), kind(3)))]
    held.go_on.set()
    assert answers([futures[0], futures[2]]) == [["1 of x"], ["2 of x", "3 of x"]]
    with pytest.raises(fault):
        futures[1].result(WITHIN)
    assert held.calls[1:] == [[kind(1)], [bad], [kind(2), kind(3)]]


@pytest.mark.parametrize(
    "other",
    [
        asks(2, column="y"),
        asks(2.0),
        asks("2"),
        Question(pd.DataFrame({"x": [2]}), {"temperature": 1}),
        Question(pd.DataFrame({"x": [2]}, index=["named"])),
    ],
    ids=["column", "float", "text", "params", "index"],
)
def test_what_is_not_alike_is_asked_apart(held: Held, other: Question) -> None:
    futures = [held.ask(asks(1)), held.ask(other), held.ask(asks(3))]
    held.go_on.set()
    found = answers(futures)
    assert (found[0], found[2]) == (["1 of x"], ["3 of x"])
    assert [1, 3] in held.calls
    assert len(held.calls) == 2


def test_a_large_request_is_asked_by_itself_and_lets_the_others_go_first(held: Held) -> None:
    large = asks(*range(1000))
    futures = [held.ask(large), held.ask(asks(1)), held.ask(asks(2))]
    held.go_on.set()
    assert [len(each) for each in answers(futures)] == [1000, 1, 1]
    assert [len(call) for call in held.calls] == [2, 1000]


def test_a_proof_is_asked_by_itself(held: Held) -> None:
    futures = [held.ask(asks(1)), held.ask(asks(2)), held.ask(asks(3), ahead=True)]
    held.go_on.set()
    assert answers(futures) == [["1 of x"], ["2 of x"], ["3 of x"]]
    assert held.calls == [[3], [1, 2]]


def test_who_has_gone_is_not_asked_for(held: Held) -> None:
    futures = [held.ask(asks(1)), held.ask(asks(2)), held.ask(asks(3))]
    assert futures[1].cancel()
    held.go_on.set()
    assert answers([futures[0], futures[2]]) == [["1 of x"], ["3 of x"]]
    assert held.calls == [[1, 3]]


def test_what_needs_no_asking_or_cannot_be_read_is_settled_by_itself(held: Held) -> None:
    def cached() -> joint.Steps:
        return "from the cache"
        yield

    def unreadable() -> joint.Steps:
        raise TypeError("not JSON")
        yield

    first = held.ask(asks(1))
    others = [
        held.workers.submit(joint.Work(held.loaded, begin), together=joint.answer)
        for begin in (cached, unreadable)
    ]
    held.go_on.set()
    assert answers([first]) == [["1 of x"]]
    assert others[0].result(WITHIN) == "from the cache"
    with pytest.raises(TypeError, match="not JSON"):
        others[1].result(WITHIN)
    assert held.calls == [[1]]
