"""How effects lie in their table, and come back."""

import json
from typing import Any

from sqlalchemy import ColumnElement, Row

from ebbtide.adapters.journal.faults import reading
from ebbtide.adapters.journal.records import maybe_seconds, packed, seconds, text_digest
from ebbtide.adapters.journal.schema import effects
from ebbtide.core.effects import Effect, EffectClass, State, Undo, Wish

_FORGOTTEN = "sha256:"
"""What stands before the digest in place of a payload. No JSON begins so."""


def effect_of(row: Row[Any]) -> Effect:
    with reading(f"Effect {row.key} of `{row.system}`"):
        undo = json.loads(row.undo) if row.undo else None
        return Effect(
            system=row.system,
            key=row.key,
            release=row.release,
            kind=row.kind,
            klass=EffectClass(row.klass),
            payload=None if is_forgotten(row) else json.loads(row.payload),
            undo=Undo(undo["kind"], undo["payload"]) if undo else None,
            undoes=row.undoes,
            saga=row.saga,
            state=State(row.state),
            attempts=row.attempts,
            unsure=bool(row.unsure),
            queued_at=seconds(row.queued_at),
            due_at=seconds(row.due_at),
            sent_at=maybe_seconds(row.sent_at),
            answer=row.answer,
            why=row.why,
            claim=row.claim,
            claimed_at=maybe_seconds(row.claimed_at),
            claim_until=maybe_seconds(row.claim_until),
            forgotten=is_forgotten(row),
        )


def content_of(wish: Wish) -> dict[str, str]:
    """What makes an effect that very one, as it lies in the table."""
    undo = {"kind": wish.undo.kind, "payload": wish.undo.payload} if wish.undo else None
    return {
        "kind": wish.kind,
        "klass": wish.klass.value,
        "payload": packed(wish.payload),
        "undo": packed(undo) if undo else "",
    }


def content_digest(release: str, content: dict[str, str], undoes: str = "") -> str:
    """What the audit trail keeps of an effect: a payload may be about somebody."""
    return text_digest(packed({**content, "release": release, "undoes": undoes}))


def digest_of(row: Row[Any]) -> str:
    """The same of an effect that lies in the table, also where only its digest is left."""
    if is_forgotten(row):
        return str(row.payload).removeprefix(_FORGOTTEN)
    content = {name: getattr(row, name) for name in ("kind", "klass", "payload", "undo")}
    return content_digest(row.release, content, row.undoes)


def is_forgotten(row: Row[Any]) -> bool:
    """Only the digest of what it sent is left."""
    return str(row.payload).startswith(_FORGOTTEN)


def mark_of(row: Row[Any]) -> str:
    """What stands in place of the payload once that is forgotten."""
    return _FORGOTTEN + digest_of(row)


def one(system: str, key: str) -> ColumnElement[bool]:
    return (effects.c.system == system) & (effects.c.key == key)
