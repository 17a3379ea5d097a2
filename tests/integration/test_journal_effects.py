"""The outbox on both databases: one claim for each effect, undos in order, a hold of its own."""

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.effects import EffectClass, Ended, Sent, Undo, Wish
from ebbtide.core.errors import Conflict, Fenced, Quarantined, Refused, Unknown
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

LASTS = {"": 60.0}
TAKEN = Sent(Ended.TAKEN, "taken", answer='{"id": 7}')
CLAIM = """
import sys
from ebbtide.adapters.journal import open_journal
journal = open_journal(sys.argv[1])
go()
claimed = []
while effect := journal.claim_effect("ride-pricing", {"": 60.0}):
    claimed.append(effect.key)
print(",".join(claimed))
"""


def wish(key: str, undo: Undo | None = None) -> Wish:
    klass = EffectClass.REVERSIBLE if undo else EffectClass.IRREVERSIBLE
    return Wish("mail", klass, {"to": key, "näher": None}, key, undo)


def test_processes_at_once_claim_each_effect_once(journal: SqlJournal, url: str, sql: Sql) -> None:
    (one,) = recorded(journal, "1")
    keys = [f"e{n}" for n in range(12)]
    for key in keys:
        journal.queue_effect(SYSTEM, one.id, wish(key))
    claimed = ",".join(run_together([CLAIM] * 2, url)).split(",")
    assert sorted(filter(None, claimed)) == sorted(keys)
    assert sql("SELECT DISTINCT state, attempts FROM effects") == [("sending", 1)]
    assert journal.verify() == []


def test_an_effect_from_its_queue_to_its_undo(journal: SqlJournal, sql: Sql) -> None:
    one, two = recorded(journal, "1", "2")
    undo = Undo("mail", {"close": "{answer.id}"})
    for key in ("a", "b"):
        journal.queue_effect(SYSTEM, one.id, wish(key, undo))
        claimed = journal.claim_effect(SYSTEM, LASTS)
        assert claimed and claimed.key == key and journal.claim_effect(SYSTEM, LASTS) is None
        assert journal.end_claim(claimed, TAKEN, wait=None)
        assert not journal.end_claim(claimed, TAKEN, wait=None), "once"
    journal.queue_effect(SYSTEM, one.id, wish("c"))
    _, lease = opened(journal, two)
    for _ in range(2):
        journal.settle_effects(lease, one.id, "bad")
    assert sql("SELECT key, state, undoes FROM effects ORDER BY entry, place") == [
        ("a", "sent", ""),
        ("b", "sent", ""),
        ("c", "cancelled", ""),
        ("undo/b", "queued", "b"),
        ("undo/a", "queued", "a"),
    ]
    first = journal.claim_effect(SYSTEM, LASTS)
    assert first and first.key == "undo/b" and first.payload == {"close": 7}
    assert journal.claim_effect(SYSTEM, LASTS) is None, "its turn comes after that"
    journal.end_claim(first, Sent(Ended.REFUSED, "no"), wait=None)
    second = journal.claim_effect(SYSTEM, LASTS)
    assert second and second.key == "undo/a"
    journal.end_claim(second, TAKEN, wait=None)
    assert dict(sql("SELECT key, state FROM effects WHERE undoes = ''")) == {
        "a": "undone",
        "b": "sent",
        "c": "cancelled",
    }
    assert journal.verify() == []


def test_a_hold_is_its_sagas_alone(journal: SqlJournal, sql: Sql) -> None:
    one, two = recorded(journal, "1", "2")
    journal.queue_effect(SYSTEM, one.id, wish("a"))
    first, lease = opened(journal, one)
    for _ in range(2):
        journal.hold_effects(lease)
    assert journal.claim_effect(SYSTEM, LASTS) is None
    journal.close_saga(lease, SagaState.NEEDS_HUMAN, "stuck")
    with pytest.raises(Fenced):
        journal.let_effects_go(lease)
    second, lease = opened(journal, two)
    journal.let_effects_go(lease)
    assert sql("SELECT saga FROM effect_holds") == [(first.id,)], "not its own"
    journal.hold_effects(lease)
    assert sql("SELECT saga FROM effect_holds") == [(second.id,)]
    for _ in range(2):
        journal.let_effects_go(lease)
    assert journal.effects_held(SYSTEM) is None and journal.claim_effect(SYSTEM, LASTS)
    told = [entry.what for entry in journal.audit(SYSTEM) if entry.what.startswith("effects")]
    assert told == ["effects let go", "effects held", "effects held"]
    assert journal.verify() == []


def test_what_is_under_way_is_not_settled(journal: SqlJournal) -> None:
    one, two = recorded(journal, "1", "2")
    journal.queue_effect(SYSTEM, one.id, wish("a"))
    claimed = journal.claim_effect(SYSTEM, LASTS)
    _, lease = opened(journal, two)
    with pytest.raises(Conflict, match="Still being sent: a"):
        journal.settle_effects(lease, one.id, "bad")
    assert claimed and journal.end_claim(claimed, TAKEN, wait=None)
    journal.settle_effects(lease, one.id, "bad")
    assert journal.verify() == []


def test_only_what_has_ended_is_sent_after_all(journal: SqlJournal) -> None:
    one, two = recorded(journal, "1", "2")
    journal.queue_effect(SYSTEM, one.id, wish("a"))
    for key, fault in (("a", Refused), ("b", Unknown)):
        with pytest.raises(fault):
            journal.requeue_effect(SYSTEM, key, by="ada", reason="")
    claimed = journal.claim_effect(SYSTEM, LASTS)
    assert claimed
    journal.end_claim(claimed, Sent(Ended.REFUSED, "no"), wait=None)
    journal.requeue_effect(SYSTEM, "a", by="ada", reason="mended")
    assert journal.audit(SYSTEM)[0].detail["reason"] == "mended"
    _, lease = opened(journal, two)
    journal.quarantine(lease, {one.id: "release"}, "bad")
    journal.settle_effects(lease, one.id, "bad")
    with pytest.raises(Quarantined):
        journal.requeue_effect(SYSTEM, "a", by="ada", reason="")
    assert journal.verify() == []
