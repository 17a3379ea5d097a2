"""The journal's route and its tenures: on SQLite and on PostgreSQL alike."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.errors import (
    Conflict,
    Unknown,
)
from ebbtide.core.release import Release
from ebbtide.core.saga import SagaState
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    SYSTEM,
    Sql,
    journal,
    opened,
    postgres,
    recorded,
    run_together,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


def test_the_route_moves_forth_and_back_and_its_epoch_only_forth(
    journal: SqlJournal,
) -> None:
    one, two = recorded(journal, "1", "2")
    _, lease = opened(journal, one)
    first = journal.switch_route(lease, expected=0, to=one.id, token="t1")
    journal.mark_proved(lease, first.epoch)
    journal.close_saga(lease, SagaState.COMPLETED)

    _, lease = opened(journal, two)
    second = journal.switch_route(lease, expected=1, to=two.id, token="t2")
    back = journal.return_route(lease, expected=2, to=one.id, token="t3")

    assert (first.epoch, second.epoch) == (1, 2)
    assert back is not None
    assert (back.release, back.epoch, back.token) == (one.id, 3, "t3")
    assert journal.route(SYSTEM) == back
    told = [(tenure.release, tenure.epoch, tenure.proved) for tenure in journal.tenures(SYSTEM)]
    assert told == [(one.id, 3, False), (two.id, 2, False), (one.id, 1, True)]


def test_tenures_tell_which_release_ran_at_a_given_time(journal: SqlJournal, sql: Sql) -> None:
    one, two = recorded(journal, "1", "2")
    _, lease = opened(journal, one)
    first = journal.switch_route(lease, expected=0, to=one.id, token="t1")
    journal.close_saga(lease, SagaState.COMPLETED)
    sql("UPDATE tenures SET since = since - 60000000")
    _, lease = opened(journal, two)
    second = journal.switch_route(lease, expected=1, to=two.id, token="t2")

    def ran_at(moment: float) -> list[str]:
        return [
            tenure.release
            for tenure in journal.tenures(SYSTEM)
            if tenure.since <= moment and (tenure.until is None or moment < tenure.until)
        ]

    assert ran_at(first.since - 30) == [one.id]
    assert ran_at(second.since) == [two.id]
    assert ran_at(first.since - 90) == []


def test_a_cleared_route_serves_nothing_and_keeps_its_epoch(
    journal: SqlJournal,
) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    journal.switch_route(lease, expected=0, to=one.id, token="t1")
    for _ in range(2):
        cleared = journal.return_route(lease, expected=1, to="", token="t2")
        assert cleared is not None
        assert (cleared.release, cleared.epoch) == ("", 2)
    assert [tenure.until is None for tenure in journal.tenures(SYSTEM)] == [False]
    journal.close_saga(lease, SagaState.TAKEN_BACK)
    _, lease = opened(journal, one)
    assert journal.switch_route(lease, expected=2, to=one.id, token="t3").epoch == 3


def test_a_switch_said_again_changes_nothing(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    first = journal.switch_route(lease, expected=0, to=one.id, token="t1")
    assert journal.switch_route(lease, expected=0, to=one.id, token="other") == first
    assert len(journal.tenures(SYSTEM)) == 1


def test_a_switch_from_another_epoch_or_to_an_unknown_release_is_refused(
    journal: SqlJournal,
) -> None:
    one, two = recorded(journal, "1", "2")
    _, lease = opened(journal, one)
    journal.switch_route(lease, expected=0, to=one.id, token="t1")
    before = journal.route(SYSTEM), journal.tenures(SYSTEM), journal.audit(SYSTEM)
    for expected in (0, 2):
        with pytest.raises(Conflict):
            journal.switch_route(lease, expected=expected, to=two.id, token="t2")
    with pytest.raises(Unknown):
        journal.switch_route(lease, expected=1, to="0" * 64, token="t2")
    assert (
        journal.route(SYSTEM),
        journal.tenures(SYSTEM),
        journal.audit(SYSTEM),
    ) == before


def test_the_candidate_moves_only_from_what_was_expected(journal: SqlJournal) -> None:
    one, two = recorded(journal, "1", "2")
    _, lease = opened(journal, one)
    with pytest.raises(Conflict):
        journal.set_candidate(lease, one.id, only_from=[two.id])
    for _ in range(2):
        journal.set_candidate(lease, one.id, only_from=[""])
    route = journal.route(SYSTEM)
    assert route is not None
    assert (route.release, route.epoch, route.candidate) == ("", 0, one.id)
    assert journal.switch_route(lease, expected=0, to=one.id, token="t").candidate == one.id
    journal.set_candidate(lease, "", only_from=[one.id])
    assert journal.verify() == []


def test_only_a_sagas_own_tenure_can_be_proved_by_it(journal: SqlJournal) -> None:
    one, two = recorded(journal, "1", "2")
    _, lease = opened(journal, one)
    journal.switch_route(lease, expected=0, to=one.id, token="t1")
    journal.close_saga(lease, SagaState.COMPLETED)
    _, lease = opened(journal, two)
    for epoch in (1, 2):
        with pytest.raises(Conflict):
            journal.mark_proved(lease, epoch)
    assert [tenure.proved for tenure in journal.tenures(SYSTEM)] == [False]


def test_of_many_threads_one_moves_the_route(journal: SqlJournal) -> None:
    releases = recorded(journal, *(str(n) for n in range(8)))
    _, lease = opened(journal, releases[0])

    def switch(release: Release) -> str:
        try:
            return journal.switch_route(lease, expected=0, to=release.id, token="t").release
        except Conflict:
            return ""

    with ThreadPoolExecutor(8) as threads:
        won = [release for release in threads.map(switch, releases) if release]
    route = journal.route(SYSTEM)
    assert route is not None
    assert ([route.release], route.epoch) == (won, 1)
    assert journal.verify() == []


_SWITCH = """
from ebbtide.adapters.journal import open_journal
from ebbtide.core.errors import Conflict
from ebbtide.core.lease import Lease
url, saga, system, holder, *releases = sys.argv[1:]
journal = open_journal(url)
go()
try:
    journal.switch_route(Lease(saga, system, holder, 1), expected=0, to=releases[{n}], token="t")
    print("won")
except Conflict:
    print("lost")
"""


def test_of_two_processes_one_moves_the_route(journal: SqlJournal, url: str) -> None:
    one, two = recorded(journal, "1", "2")
    _, lease = opened(journal, one)
    scripts = [_SWITCH.format(n=0), _SWITCH.format(n=1)]
    told = run_together(scripts, url, lease.saga, SYSTEM, lease.holder, one.id, two.id)
    assert sorted(told) == ["lost", "won"]
    route = journal.route(SYSTEM)
    assert route is not None
    assert (route.epoch, route.release) == (1, [one.id, two.id][told.index("won")])
