"""Whoever changes the journal by hand is found out, and told where."""

import hashlib
import json
import threading
from dataclasses import dataclass

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.errors import Conflict, Tampered
from ebbtide.core.gates import passed
from ebbtide.core.lease import Lease
from ebbtide.core.release import Evidence, Release
from ebbtide.core.saga import Phase, Saga, SagaState
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    GOLDEN,
    SYSTEM,
    Sql,
    a_release,
    journal,
    opened,
    postgres,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


@dataclass(frozen=True)
class Story:
    release: Release
    saga: Saga
    lease: Lease


@pytest.fixture
def story(journal: SqlJournal) -> Story:
    """A first promotion, told whole: ten audit entries."""
    release = a_release()
    journal.add_release(release, Evidence("ada", 0.0, note="näher", metrics={"mae": 0.1}), GOLDEN)
    _, lease = opened(journal, release)
    journal.set_candidate(lease, release.id, only_from=[""])
    journal.intend(lease, 0, "route.switch", Phase.CUT_OVER, "")
    journal.switch_route(lease, expected=0, to=release.id, token="t1")
    journal.done(lease, 0)
    journal.found(lease, 0, passed("all agree", seconds=0.1))
    journal.mark_proved(lease, 1)
    journal.quarantine(lease, {"f" * 64: "model demand"}, "prices surge")
    return Story(release, journal.close_saga(lease, SagaState.COMPLETED), lease)


def test_an_untouched_journal_has_nothing_wrong(journal: SqlJournal, story: Story) -> None:
    assert journal.verify() == []
    assert [entry.n for entry in journal.audit(SYSTEM)] == list(range(10, 0, -1))
    assert [entry.n for entry in journal.audit("", limit=2)] == [10, 9]
    assert journal.audit("another") == []
    assert {entry.who for entry in journal.audit(SYSTEM)} == {"ada"}


def test_anybody_can_recompute_the_chain(journal: SqlJournal, story: Story) -> None:
    previous = "0" * 64
    for entry in reversed(journal.audit(SYSTEM)):
        content = {
            "n": entry.n,
            "at": entry.at,
            "system": SYSTEM,
            "who": entry.who,
            "what": entry.what,
            "saga": entry.saga,
            "detail": dict(entry.detail),
            "previous": previous,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert entry.digest == previous


TRAIL = {
    "edited": (
        "UPDATE audit SET who = 'eve' WHERE n = 4",
        "Audit entry 4 (step intended",
    ),
    "moved in time": (
        "UPDATE audit SET at = at + 1 WHERE n = 4",
        "Audit entry 4 (step intended",
    ),
    "edited inside": (
        "UPDATE audit SET detail = replace(detail, 'prices', 'profits') WHERE n = 9",
        "Audit entry 9 (contents quarantined",
    ),
    "unreadable": (
        "UPDATE audit SET detail = '{' WHERE n = 4",
        "Audit entry 4 cannot be read",
    ),
    "deleted in the middle": (
        "DELETE FROM audit WHERE n = 6",
        "Audit entry 6 is missing",
    ),
    "deleted at the start": (
        "DELETE FROM audit WHERE n < 3",
        "Audit entries 1 to 2 are missing",
    ),
    "cut at the end": (
        "DELETE FROM audit WHERE n > 8",
        "Audit entries 9 to 10 are missing",
    ),
    "gone": ("DELETE FROM audit", "Audit entries 1 to 10 are missing"),
    "longer than its head": (
        "UPDATE audit_head SET entries = 9",
        "Audit entry 10 is not counted",
    ),
    "without a head": (
        "DELETE FROM audit_head",
        "The head of the audit trail is missing",
    ),
}


@pytest.mark.parametrize("how", TRAIL)
def test_a_broken_trail_shows(journal: SqlJournal, story: Story, sql: Sql, how: str) -> None:
    statement, sentence = TRAIL[how]
    sql(statement)
    assert any(problem.startswith(sentence) for problem in journal.verify()), journal.verify()


def test_a_trail_that_was_written_anew_shows_by_its_head(
    journal: SqlJournal, story: Story, sql: Sql
) -> None:
    previous = journal.audit(SYSTEM)[1].digest
    last = journal.audit(SYSTEM)[0]
    content = {
        "n": last.n,
        "at": last.at,
        "system": SYSTEM,
        "who": "eve",
        "what": last.what,
        "saga": last.saga,
        "detail": dict(last.detail),
        "previous": previous,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    forged = hashlib.sha256(text.encode()).hexdigest()
    sql(f"UPDATE audit SET who = 'eve', digest = '{forged}' WHERE n = 10")
    assert journal.verify() == [
        "The head of the audit trail is not the digest of entry 10: it was written anew."
    ]


def test_without_the_head_nothing_more_is_written(
    journal: SqlJournal, story: Story, sql: Sql
) -> None:
    sql("DELETE FROM audit_head")
    with pytest.raises(Tampered):
        journal.add_release(a_release("2"), Evidence("ada", 0.0), None)
    assert len(journal.releases(SYSTEM)) == 1


RECORDS = {
    "manifest": (
        "UPDATE releases SET manifest = replace(manifest, 'surge', 'surgf')",
        "The manifest of release {release}",
    ),
    "evidence": (
        "UPDATE releases SET evidence = replace(evidence, '0.1', '0.0')",
        "The evidence of release {release}",
    ),
    "snapshot": (
        "UPDATE snapshots SET content = replace(content, '12.25', '12.26')",
        "The behavioural snapshot of release {release}",
    ),
    "snapshot gone": (
        "DELETE FROM snapshots",
        "The behavioural snapshot of release {release}",
    ),
    "plan": (
        "UPDATE sagas SET plan = replace(plan, 'route.switch', 'route.twitch')",
        "The plan of saga {saga}",
    ),
    "outcome": ("UPDATE sagas SET state = 'taken back'", "Saga {saga} is `taken back`"),
    "memory": (
        "UPDATE steps SET remembered = 'null'",
        "What step 0 of saga {saga} remembers",
    ),
    "step gone": ("DELETE FROM steps", "What step 0 of saga {saga} remembers"),
    "route": ("UPDATE routes SET epoch = 7", "The route of `ride-pricing`"),
    "route gone": ("DELETE FROM routes", "The route of `ride-pricing`"),
    "proof": (
        "UPDATE tenures SET proved = NOT proved",
        "Whether epoch 1 of `ride-pricing`",
    ),
    "tenure gone": ("DELETE FROM tenures", "Who served `ride-pricing` in epoch 1"),
    "quarantine lifted": ("DELETE FROM quarantine", "The quarantine of ffffffffffff"),
}


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_changed_by_hand_is_named(
    journal: SqlJournal, story: Story, sql: Sql, record: str
) -> None:
    statement, sentence = RECORDS[record]
    sql(statement)
    (problem,) = journal.verify()
    named = sentence.format(release=story.release.short, saga=story.saga.id)
    assert problem.startswith(named)


def test_a_release_that_was_smuggled_in_or_deleted_is_named(
    journal: SqlJournal, story: Story, sql: Sql
) -> None:
    smuggled = a_release("9")
    manifest = json.dumps(smuggled.to_json(), sort_keys=True, separators=(",", ":"))
    sql(f"INSERT INTO releases VALUES ('{smuggled.id}', '{SYSTEM}', '{manifest}', '{{}}', 3)")
    (problem,) = journal.verify()
    assert problem.startswith(f"Release {smuggled.short} is in no audit entry")

    extra = a_release("2")
    journal.add_release(extra, Evidence("ada", 0.0), None)
    sql(f"DELETE FROM releases WHERE id IN ('{extra.id}', '{smuggled.id}')")
    assert journal.verify() == [f"Release {extra.short} was deleted."]


def test_verifying_while_others_write_finds_nothing(journal: SqlJournal, story: Story) -> None:
    over = threading.Event()

    def write() -> None:
        n = 0
        while not over.is_set():
            n += 1
            journal.add_release(a_release(f"9{n}"), Evidence("bob", 0.0), None)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        found = [problem for _ in range(10) for problem in journal.verify()]
    finally:
        over.set()
        for writer in writers:
            writer.join()
    assert found == []
    assert len(journal.releases(SYSTEM)) > 1


def test_a_refused_write_leaves_no_entry(journal: SqlJournal, story: Story) -> None:
    _, lease = opened(journal, a_release())
    entries = journal.audit(SYSTEM)
    with pytest.raises(Conflict):
        journal.switch_route(lease, expected=0, to=story.release.id, token="t")
    assert journal.audit(SYSTEM) == entries
