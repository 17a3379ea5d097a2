"""What `doctor` and the planner ask of the journal: who was proved, and how long it took."""

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.errors import Unreachable
from ebbtide.core.gates import passed
from ebbtide.core.journal import Replica
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Phase, SagaState
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


def moved(
    journal: SqlJournal,
    to: Release,
    *,
    proved: bool = True,
    level: Level = Level.SYSTEM,
    state: SagaState = SagaState.COMPLETED,
) -> str:
    """A saga that moved the route; its id."""
    saga, lease = opened(journal, to, level)
    route = journal.switch_route(lease, expected=saga.epoch, to=to.id, token=saga.id)
    if proved:
        journal.mark_proved(lease, route.epoch)
    journal.close_saga(lease, state)
    return saga.id


def test_proved_releases_come_newest_first_and_once(journal: SqlJournal) -> None:
    one, two, three = recorded(journal, "1", "2", "3")
    for release, proved in ((one, True), (two, True), (three, False), (one, True), (two, False)):
        moved(journal, release, proved=proved)
    assert journal.proved(SYSTEM) == [one.id, two.id]
    assert journal.proved("another") == []


def test_a_release_counts_as_good_only_after_long_enough(journal: SqlJournal, sql: Sql) -> None:
    one, two, three = recorded(journal, "1", "2", "3")
    for release in (one, two, three):
        moved(journal, release)
    # One served a minute; two a second; three serves on, since two minutes.
    sql("UPDATE tenures SET since = since - 300000000")
    sql("UPDATE tenures SET until = since + 60000000 WHERE epoch = 1")
    sql("UPDATE tenures SET until = since + 1000000 WHERE epoch = 2")
    sql("UPDATE tenures SET since = since + 180000000 WHERE epoch = 3")
    assert journal.proved(SYSTEM, 0.5) == [three.id, two.id, one.id]
    assert journal.proved(SYSTEM, 30.0) == [three.id, one.id]
    assert journal.proved(SYSTEM, 100.0) == [three.id]
    assert journal.proved(SYSTEM, 3600.0) == []


def test_a_few_tenures_are_the_newest(journal: SqlJournal) -> None:
    releases = recorded(journal, "1", "2", "3")
    for release in releases:
        moved(journal, release)
    assert journal.tenures(SYSTEM, limit=2) == journal.tenures(SYSTEM)[:2]
    assert len(journal.tenures(SYSTEM)) == 3


def test_runs_tell_how_long_completed_sagas_of_a_level_took(journal: SqlJournal, sql: Sql) -> None:
    one, two = recorded(journal, "1", "2")
    first = moved(journal, one)
    moved(journal, two, state=SagaState.TAKEN_BACK)
    moved(journal, one, level=Level.MODEL)
    second = moved(journal, two)
    sql("UPDATE sagas SET opened_at = closed_at - 4000000")
    sql("UPDATE tenures SET since = (SELECT opened_at + 1500000 FROM sagas WHERE id = saga)")
    found = journal.runs(SYSTEM, Level.SYSTEM)
    assert [run.saga for run in found] == [second, first]
    assert {(run.seconds, run.switched) for run in found} == {(4.0, 1.5)}
    assert abs(journal.now() - found[0].ended) < 60
    assert [run.saga for run in journal.runs(SYSTEM, Level.SYSTEM, limit=1)] == [second]
    assert journal.runs(SYSTEM, Level.PROMOTION) == journal.runs("another", Level.SYSTEM) == []


def test_a_run_without_a_tenure_of_its_own_has_no_time_of_switching(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    journal.close_saga(lease, SagaState.COMPLETED)
    (run,) = journal.runs(SYSTEM, Level.SYSTEM)
    assert run.switched is None


def test_a_step_that_only_looks_is_done_with_its_intent(journal: SqlJournal, sql: Sql) -> None:
    (one,) = recorded(journal, "1")
    saga, lease = opened(journal, one)
    journal.looked(lease, 0, "gate", Phase.PREFLIGHT, passed("fine"), 2.5)
    journal.intend(lease, 1, "step", Phase.PREPARE, None)
    gate, step = journal.steps(saga.id)
    assert gate.done_at == gate.proved_at == pytest.approx(gate.intent_at + 2.5)
    assert step.done_at is None
    assert journal.verify() == []


def test_a_write_can_be_tried_without_a_trace(journal: SqlJournal) -> None:
    before = journal.audit("", 100)
    journal.try_write()
    assert journal.audit("", 100) == before and journal.verify() == []


def test_a_write_that_cannot_be_made_is_told(journal: SqlJournal, sql: Sql) -> None:
    if not journal._database.is_sqlite:
        sql("ALTER TABLE audit_head RENAME TO hidden")
    else:
        with journal._database.read() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(Exception, match="journal") as caught:
        journal.try_write()
    assert isinstance(caught.value, Unreachable) or not journal._database.is_sqlite


def test_a_replica_is_forgotten_where_it_reported(journal: SqlJournal) -> None:
    mine = Replica("a", "http://a", "", 0, (), {}, 0.0)
    journal.report(SYSTEM, mine)
    journal.forget(SYSTEM, "a", "http://another")
    journal.forget("another", "a", "http://a")
    assert [replica.name for replica in journal.replicas(SYSTEM, 5.0)] == ["a"]
    for _ in range(2):
        journal.forget(SYSTEM, "a", "http://a")
        assert journal.replicas(SYSTEM, 5.0) == []
