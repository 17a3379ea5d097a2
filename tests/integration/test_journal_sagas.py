"""The journal's sagas: one open for a system, written only by who holds it."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.errors import (
    Fenced,
    PlanChanged,
    SagaOpen,
)
from ebbtide.core.gates import passed
from ebbtide.core.lease import Lease
from ebbtide.core.release import Evidence
from ebbtide.core.saga import Phase, SagaState
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    SYSTEM,
    Sql,
    a_plan,
    a_release,
    journal,
    opened,
    postgres,
    recorded,
    run_together,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


def test_a_saga_comes_back_as_it_was_opened(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    plan = a_plan(journal, one)
    saga, lease = journal.open_saga(plan, by="ada", reason="prices surge")
    assert journal.saga(saga.id[:6]) == saga == journal.sagas(SYSTEM)[0]
    assert (saga.state, saga.by, saga.reason) == (SagaState.OPEN, "ada", "prices surge")
    assert saga.plan_digest == plan.digest
    assert saga.plan == json.loads(json.dumps(plan.to_json()))
    journal.renew(lease)
    closed = journal.close_saga(lease, SagaState.NEEDS_HUMAN, "undo failed", ["return alias"])
    assert (closed.why, closed.left) == ("undo failed", ("return alias",))
    assert journal.close_saga(lease, SagaState.NEEDS_HUMAN, "again") == closed
    assert journal.saga(saga.id) == closed
    assert closed.closed_at is not None


def test_a_system_has_one_open_saga(journal: SqlJournal, sql: Sql) -> None:
    (one,) = recorded(journal, "1")
    saga, lease = opened(journal, one)
    with pytest.raises(SagaOpen, match=saga.id):
        opened(journal, one)
    columns = "system, level, source, target, epoch, state, plan, plan_digest, ordered_by, reason"
    columns += ", order_key, opened_at, why, remaining, holder, lease_epoch, lease_until, entry"
    with pytest.raises(Exception, match=r"(?i)unique"):
        sql(f"INSERT INTO sagas (id, {columns}) SELECT 'another', {columns} FROM sagas")
    other = a_release("1", "another")
    journal.add_release(other, Evidence("ada", 0.0), None)
    opened(journal, other)
    journal.close_saga(lease, SagaState.REFUSED)
    opened(journal, one)


_OPEN = """
from ebbtide.adapters.journal import open_journal
from ebbtide.core.errors import SagaOpen
from tests.integration.journal_fixtures import a_plan
journal = open_journal(sys.argv[1])
plan = a_plan(journal, journal.release(sys.argv[2]))
go()
try:
    print(journal.open_saga(plan, by="ada", reason="race")[0].id)
except SagaOpen:
    print("refused")
"""


def test_of_three_processes_one_opens_the_saga(journal: SqlJournal, url: str) -> None:
    (one,) = recorded(journal, "1")
    told = run_together([_OPEN] * 3, url, one.id)
    (winner,) = [line for line in told if line != "refused"]
    assert [saga.id for saga in journal.sagas(SYSTEM)] == [winner]


def test_a_plan_from_another_source_or_epoch_is_not_opened(journal: SqlJournal) -> None:
    one, two = recorded(journal, "1", "2")
    stale = a_plan(journal, two)
    _, lease = opened(journal, one)
    journal.switch_route(lease, expected=0, to=one.id, token="t")
    journal.close_saga(lease, SagaState.COMPLETED)
    current = a_plan(journal, two)
    for plan in (stale, replace(current, epoch=2), replace(current, source=two.id)):
        with pytest.raises(PlanChanged):
            journal.open_saga(plan, by="ada", reason="late")
    journal.open_saga(current, by="ada", reason="in time")


def test_an_order_with_the_same_key_is_not_run_again(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one, key="order-7")
    with pytest.raises(SagaOpen):
        opened(journal, one, key="order-7")
    closed = journal.close_saga(lease, SagaState.TAKEN_BACK)
    again, dead = opened(journal, one, key="order-7")
    assert again == closed
    with pytest.raises(Fenced):
        journal.intend(dead, 0, "route.switch", Phase.CUT_OVER, None)
    assert len(journal.sagas(SYSTEM)) == 1
    assert opened(journal, one, key="order-8")[0].state is SagaState.OPEN


_WRITES: dict[str, Callable[[SqlJournal, Lease, str], Any]] = {
    "renew": lambda journal, lease, _: journal.renew(lease),
    "intend": lambda journal, lease, _: journal.intend(lease, 1, "b", Phase.PROVE, None),
    "done": lambda journal, lease, _: journal.done(lease, 0),
    "found": lambda journal, lease, _: journal.found(lease, 0, passed("ok")),
    "intend_undo": lambda journal, lease, _: journal.intend_undo(lease, 0),
    "undone": lambda journal, lease, _: journal.undone(lease, 0),
    "switch_route": lambda journal, lease, release: journal.switch_route(
        lease, expected=0, to=release, token="t"
    ),
    "return_route": lambda journal, lease, release: journal.return_route(
        lease, expected=0, to=release, token="t"
    ),
    "set_candidate": lambda journal, lease, release: journal.set_candidate(
        lease, release, only_from=[""]
    ),
    "mark_proved": lambda journal, lease, _: journal.mark_proved(lease, 1),
    "quarantine": lambda journal, lease, release: journal.quarantine(lease, {release: "r"}, "bad"),
    "close_saga": lambda journal, lease, _: journal.close_saga(lease, SagaState.COMPLETED),
}


@pytest.mark.parametrize("write", _WRITES)
def test_who_lost_the_lease_writes_nothing(journal: SqlJournal, sql: Sql, write: str) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    journal.intend(lease, 0, "a", Phase.PREPARE, None)
    tables = (
        "sagas",
        "steps",
        "routes",
        "tenures",
        "quarantine",
        "audit",
        "audit_head",
    )

    def everything() -> list[Any]:
        return [sorted(map(repr, sql(f"SELECT * FROM {table}"))) for table in tables]

    takeovers = (
        "lease_epoch = 2",
        "lease_epoch = 1, holder = 'another'",
        f"holder = '{lease.holder}', state = 'taken back'",
    )
    for takeover in takeovers:
        sql(f"UPDATE sagas SET {takeover}")
        before = everything()
        with pytest.raises(Fenced, match=lease.saga):
            _WRITES[write](journal, lease, one.id)
        assert everything() == before
