"""Fences in the journal: one for each table, lifted only by who raised it, and told."""

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.errors import Fenced
from ebbtide.core.saga import SagaState
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    SYSTEM,
    Sql,
    journal,
    opened,
    postgres,
    recorded,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


def test_a_fence_stands_until_it_is_lifted(journal: SqlJournal, sql: Sql) -> None:
    (one,) = recorded(journal, "1")
    saga, lease = opened(journal, one)
    for _ in range(2):
        journal.raise_fence(lease, ["zones", "rides"])
    assert sql("SELECT name, saga FROM fences ORDER BY name") == [
        ("rides", saga.id),
        ("zones", saga.id),
    ]
    fences = journal.fences(SYSTEM)
    assert [(fence.table, fence.saga, fence.epoch) for fence in fences] == [
        ("rides", saga.id, 1),
        ("zones", saga.id, 1),
    ]
    assert abs(fences[0].since - journal.now()) < 60
    for _ in range(2):
        journal.lift_fence(lease, ["rides", "never-raised"])
    assert sql("SELECT name FROM fences") == [("zones",)]
    told = [(e.what, e.detail["tables"]) for e in journal.audit(SYSTEM) if "fence" in e.what]
    assert told == [("fence lifted", ["rides"]), ("fence raised", ["rides", "zones"])]
    assert journal.fences("another") == [] and journal.verify() == []


def test_the_next_saga_takes_over_what_an_ended_one_left(journal: SqlJournal) -> None:
    one, two = recorded(journal, "1", "2")
    first, lease = opened(journal, one)
    journal.raise_fence(lease, ["rides", "zones"])
    journal.close_saga(lease, SagaState.NEEDS_HUMAN, "stuck")
    with pytest.raises(Fenced):
        journal.lift_fence(lease, ["rides"])
    second, lease = opened(journal, two)
    journal.lift_fence(lease, ["rides", "zones"])
    assert {fence.saga for fence in journal.fences(SYSTEM)} == {first.id}, "not its own"
    journal.raise_fence(lease, ["rides"])
    assert {f.table: f.saga for f in journal.fences(SYSTEM)} == {
        "rides": second.id,
        "zones": first.id,
    }
    assert journal.audit(SYSTEM)[0].detail == {"tables": ["rides"], "was": {"rides": first.id}}
    assert journal.verify() == []


@pytest.mark.parametrize(
    "by_hand",
    ["DELETE FROM fences", "UPDATE fences SET name = 'zones'"],
)
def test_a_fence_that_was_changed_by_hand_shows(
    journal: SqlJournal, sql: Sql, by_hand: str
) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    journal.raise_fence(lease, ["rides"])
    sql(by_hand)
    assert any("fence of table `rides`" in problem for problem in journal.verify())
