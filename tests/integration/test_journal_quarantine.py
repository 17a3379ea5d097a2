"""A quarantine keeps its reason, and is lifted by a person: the journal says by whom and why."""

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.errors import SagaOpen
from ebbtide.core.release import Evidence
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    SYSTEM,
    Sql,
    a_plan,
    a_release,
    journal,
    opened,
    postgres,
    recorded,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

MODEL = "f" * 64


def test_a_quarantine_keeps_its_first_reason(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    journal.quarantine(lease, {one.id: "release", "f" * 64: "model demand"}, "prices surge")
    journal.quarantine(lease, {one.id: "release"}, "another reason")
    assert journal.quarantined(SYSTEM) == {
        one.id: "release: prices surge",
        "f" * 64: "model demand: prices surge",
    }
    assert journal.quarantined("another") == {}


def test_a_lifted_quarantine_is_gone_and_told(journal: SqlJournal, sql: Sql) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    journal.quarantine(lease, {one.id: "release", MODEL: "model demand"}, "prices surge")

    lifted = journal.lift_quarantine(SYSTEM, [MODEL, "0" * 64], by="eve", reason="a wrong alarm")

    assert lifted == {MODEL: "model demand: prices surge"}
    assert sql("SELECT digest FROM quarantine") == [(one.id,)]
    newest = journal.audit(SYSTEM)[0]
    assert (newest.what, newest.who, newest.saga) == ("quarantine lifted", "eve", "")
    assert dict(newest.detail) == {"digests": lifted, "reason": "a wrong alarm"}
    assert journal.verify() == []


def test_lifting_what_is_not_denied_writes_nothing(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    journal.quarantine(lease, {MODEL: "model demand"}, "prices surge")
    before = journal.audit("")
    assert journal.lift_quarantine(SYSTEM, [one.id], by="eve", reason="") == {}
    assert journal.lift_quarantine("another", [MODEL], by="eve", reason="") == {}
    assert journal.lift_quarantine(SYSTEM, [], by="eve", reason="") == {}
    assert journal.audit("") == before and MODEL in journal.quarantined(SYSTEM)


def test_what_was_lifted_can_be_denied_again_and_only_by_ebbtide(
    journal: SqlJournal, sql: Sql
) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    for reason in ("prices surge", "prices surge again"):
        journal.lift_quarantine(SYSTEM, [MODEL], by="eve", reason="mended")
        journal.quarantine(lease, {MODEL: "model demand"}, reason)
    assert journal.quarantined(SYSTEM) == {MODEL: "model demand: prices surge again"}
    journal.lift_quarantine(SYSTEM, [MODEL], by="eve", reason="mended")
    assert journal.verify() == []
    sql(
        "INSERT INTO quarantine (system, digest, what, reason, saga, at)"
        f" VALUES ('{SYSTEM}', '{MODEL}', 'model', '', '{lease.saga}', 0)"
    )
    assert journal.verify() == [
        f"The quarantine of {MODEL[:12]} in `{SYSTEM}` was changed by hand."
    ]


def test_a_composed_target_is_recorded_as_its_saga_opens_and_only_then(
    journal: SqlJournal, sql: Sql
) -> None:
    first, second = a_release("1"), a_release("2")
    saga, _ = journal.open_saga(
        a_plan(journal, first), by="ada", reason="prices surge", composed=first
    )
    with pytest.raises(SagaOpen):
        journal.open_saga(a_plan(journal, second), by="eve", reason="", composed=second)
    assert sql("SELECT id FROM releases") == [(first.id,)]
    evidence = journal.evidence(first.id)
    assert (evidence.by, evidence.note, evidence.composed) == ("ada", "prices surge", True)
    assert evidence.at == pytest.approx(saga.opened_at, abs=60)
    assert [entry.what for entry in journal.audit(SYSTEM)] == ["saga opened", "release recorded"]
    assert journal.verify() == []


def test_a_target_that_was_recorded_before_keeps_its_evidence(journal: SqlJournal) -> None:
    release = a_release()
    journal.add_release(release, Evidence("bob", 1.0, note="by hand"), None)
    journal.open_saga(a_plan(journal, release), by="ada", reason="again", composed=release)
    evidence = journal.evidence(release.id)
    assert (evidence.by, evidence.note, evidence.composed) == ("bob", "by hand", False)
