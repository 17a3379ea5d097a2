"""The journal keeps releases, their evidence and golden sets: on SQLite and on PostgreSQL alike."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.errors import (
    Conflict,
    Tampered,
    Unknown,
)
from ebbtide.core.gates import passed
from ebbtide.core.journal import Journal
from ebbtide.core.release import Evidence, Golden
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    GOLDEN,
    SYSTEM,
    Sql,
    a_release,
    journal,
    postgres,
    recorded,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


def test_it_is_a_journal(journal: SqlJournal) -> None:
    port: Journal = journal
    assert port.route(SYSTEM) is None
    assert port.verify() == []


def test_a_release_comes_back_as_it_was_recorded(journal: SqlJournal, sql: Sql) -> None:
    release = a_release()
    evidence = Evidence("ada", 1.5, note="näher", findings={"smoke": passed("ok", rows=3)})
    journal.add_release(release, evidence, GOLDEN)

    assert journal.release(release.id) == release
    assert journal.golden(release.id) == GOLDEN
    assert journal.evidence(release.id).golden == GOLDEN.digest
    assert journal.evidence(release.id).findings["smoke"]["measured"] == {"rows": 3}
    ((manifest,),) = sql("SELECT manifest FROM releases")
    assert hashlib.sha256(manifest.encode()).hexdigest() == release.id


def test_the_same_release_again_only_adds_evidence_that_was_missing(
    journal: SqlJournal,
) -> None:
    release = a_release()
    journal.add_release(release, Evidence("ada", 1.0, composed=True, metrics={"mae": 2.0}), None)
    journal.add_release(
        release,
        Evidence("bob", 9.0, note="again", metrics={"mae": 7.0, "bias": 0.1}),
        GOLDEN,
    )

    evidence = journal.evidence(release.id)
    assert (evidence.by, evidence.at, evidence.composed) == ("ada", 1.0, False)
    assert (evidence.note, evidence.metrics) == ("again", {"mae": 2.0, "bias": 0.1})
    assert journal.golden(release.id) == GOLDEN
    entries = len(journal.audit(SYSTEM))
    journal.add_release(release, Evidence("eve", 3.0), None)
    assert len(journal.audit(SYSTEM)) == entries
    assert journal.verify() == []


def test_evidence_without_a_time_gets_the_journals(journal: SqlJournal) -> None:
    (release,) = recorded(journal, "1")
    assert journal.evidence(release.id).at == pytest.approx(journal.now(), abs=5)


def test_releases_are_told_newest_first(journal: SqlJournal) -> None:
    releases = recorded(journal, "1", "2", "3")
    assert [release for release, _ in journal.releases(SYSTEM)] == releases[::-1]
    assert journal.releases("another") == []


def test_a_prefix_of_six_digits_finds_a_release(journal: SqlJournal) -> None:
    release, _ = recorded(journal, "1", "2")
    assert journal.release(release.id[:6].upper()) == release
    assert journal.release(release.id[:6], SYSTEM) == release
    for unknown in (release.id[:5], "", "%%%%%%", "latest", "0123456789abcdef"):
        with pytest.raises(Unknown):
            journal.release(unknown)
    with pytest.raises(Unknown):
        journal.release(release.id, "another")


def test_an_ambiguous_prefix_lists_what_it_may_be(journal: SqlJournal, sql: Sql) -> None:
    (release,) = recorded(journal, "1")
    twin = release.id[:10] + "f" * 54
    sql(f"INSERT INTO releases SELECT '{twin}', system, manifest, evidence, 99 FROM releases")
    with pytest.raises(Unknown) as caught:
        journal.release(release.id[:8])
    assert release.id[:20] in caught.value.message
    assert twin[:20] in caught.value.message
    assert journal.release(release.id) == release


def test_a_manifest_edited_by_hand_is_not_given_out(journal: SqlJournal, sql: Sql) -> None:
    (release,) = recorded(journal, "1")
    sql("UPDATE releases SET manifest = replace(manifest, 'surge', 'surgf')")
    with pytest.raises(Tampered, match=release.id[:12]):
        journal.release(release.id)
    sql("UPDATE releases SET manifest = '[]'")
    with pytest.raises(Tampered, match=release.id[:12]):
        journal.release(release.id)


def test_a_snapshot_is_attached_once(journal: SqlJournal, sql: Sql) -> None:
    (release,) = recorded(journal, "1")
    assert journal.golden(release.id) is None
    journal.add_golden(release.id, GOLDEN, "ada")
    journal.add_golden(release.id, GOLDEN, "ada")
    with pytest.raises(Conflict):
        journal.add_golden(release.id, Golden(GOLDEN.questions, (13.0,)), "eve")
    with pytest.raises(Unknown):
        journal.add_golden("0" * 64, GOLDEN, "ada")
    assert journal.golden(release.id) == GOLDEN
    sql("UPDATE snapshots SET content = replace(content, '12.25', '12.26')")
    with pytest.raises(Tampered):
        journal.golden(release.id)


def test_writers_of_other_things_wait_for_each_other_and_all_succeed(journal: SqlJournal) -> None:
    releases = [a_release(str(n)) for n in range(24)]
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(
            lambda release: journal.add_release(release, Evidence("ada", 0.0), None), releases
        ):
            pass
    assert {release.id for release, _ in journal.releases(SYSTEM)} == {r.id for r in releases}
    assert journal.verify() == []
