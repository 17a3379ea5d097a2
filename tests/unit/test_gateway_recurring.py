"""Which questions a gateway remembers, and that it forgets the oldest."""

import pytest

from ebbtide.entrypoints.gateway import recurring
from ebbtide.entrypoints.gateway.recurring import Question, Recurring


def question(key: str, body: bytes = b"?") -> Question:
    return Question(key, "application/json", body)


def keys(found: Recurring) -> list[str]:
    return [each.key for each in found.newest_first()]


def test_what_came_last_is_first() -> None:
    found = Recurring()
    for key in ("a", "b", "c", "a"):
        found.note(question(key))
    assert keys(found) == ["a", "c", "b"]


def test_the_oldest_are_forgotten_by_number_and_by_size() -> None:
    found = Recurring()
    for n in range(recurring._KEPT + 5):
        found.note(question(str(n)))
    assert len(keys(found)) == recurring._KEPT and keys(found)[-1] == "5"
    large, many = b"x" * recurring._LONGEST, recurring._KEPT_BYTES // recurring._LONGEST
    for n in range(many):
        found.note(question(f"large {n}", large))
    assert keys(found) == [f"large {n}" for n in reversed(range(many))]


def test_a_question_that_is_too_long_is_not_kept() -> None:
    found = Recurring()
    found.note(question("a", b"x" * (recurring._LONGEST + 1)))
    assert keys(found) == []


def test_what_has_not_come_again_for_long_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Recurring()
    found.note(question("a", b"x" * recurring._LONGEST))
    monkeypatch.setattr(recurring, "_LATELY", -1.0)
    assert keys(found) == []
    monkeypatch.undo()
    found.note(question("b"))
    assert keys(found) == ["b"]
