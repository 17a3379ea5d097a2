"""How the core's dataclasses lie in the tables, and come back."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from re import fullmatch
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select

from ebbtide.adapters.journal.faults import reading
from ebbtide.core.digests import bytes_digest, canonical
from ebbtide.core.errors import Tampered, Unknown
from ebbtide.core.journal import AuditEntry, Replica, Route
from ebbtide.core.release import Evidence, Golden, Release
from ebbtide.core.saga import Level, Phase, Saga, SagaState, StepRecord
from ebbtide.core.tenure import Tenure

_MICROS = 1_000_000
_LISTED = 10


def seconds(micros: int) -> float:
    """The nearest float, so that its shortest text is the same everywhere."""
    return int(micros) / _MICROS


def maybe_seconds(micros: int | None) -> float | None:
    return None if micros is None else seconds(micros)


def plain(text: str) -> str:
    """Text that every database can hold: no NUL, no half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def packed(value: Any) -> str:
    """Canonical JSON text, exactly. Raises ValueError or TypeError for what has none."""
    return canonical(value).decode()


def report(value: Any) -> Any:
    """Figures and findings as plain JSON, whatever they are: a report must never be lost.

    A NaN becomes the text "nan"; what JSON does not know becomes its `str`.
    """
    if isinstance(value, Mapping):
        return {plain(str(key)): report(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: report(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [report(item) for item in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return plain(str(value))
    return report(value.item()) if hasattr(value, "item") else plain(str(value))


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = report(evidence)
    if not evidence.refreshes:
        del found["refreshes"]  # the text of a record stays what it was before there was such
    return found


def looked_up(
    connection: Connection,
    query: Select[Any],
    column: ColumnElement[str],
    given: str,
    noun: str,
) -> Row[Any]:
    """The one row whose id is, or begins with, what a person gave. Raises `Unknown`."""
    wanted = given.strip().lower()
    if not fullmatch(r"[0-9a-f]{6,64}", wanted):
        raise Unknown(
            f"{plain(given)[:80]!r} is no id of a {noun}.",
            remedy="Give its id, or at least the first 6 digits of it.",
        )
    # A range of ids, not LIKE: that reads every row where it cannot use the index.
    matching = query.where(column >= wanted, column < f"{wanted}g").order_by(column)
    rows = connection.execute(matching.limit(_LISTED + 1)).all()
    if not rows:
        raise Unknown(f"No {noun} {wanted}.", remedy="`ebbtide history` lists what there is.")
    if len(rows) > 1:
        listed = ", ".join(row.id[: len(wanted) + 12] for row in rows[:_LISTED])
        more = " and more" if len(rows) > _LISTED else ""
        raise Unknown(
            f"{wanted} is the beginning of more than one {noun}: {listed}{more}.",
            remedy="Give more digits.",
        )
    return rows[0]


def release_of(row: Row[Any]) -> Release:
    """Raises `Tampered` where the manifest is not the one that the id was made of."""
    with reading(f"The manifest of release {row.id[:12]}"):
        found = Release.from_json(json.loads(row.manifest))
        same = found.id == row.id and found.system == row.system
    if not same:
        raise Tampered(
            f"The manifest of release {row.id[:12]} was changed: it does not hash to its id.",
            remedy="Restore the journal from its backup; do not deploy this release.",
        )
    return found


def evidence_of(row: Row[Any]) -> Evidence:
    with reading(f"The evidence of release {row.id[:12]}"):
        return Evidence(**json.loads(row.evidence))


def golden_of(content: str) -> Golden:
    data = json.loads(content)
    return Golden(tuple(data["questions"]), tuple(data["answers"]))


def golden_text(golden: Golden) -> str:
    """Its sha256 is the snapshot's digest."""
    return packed({"questions": golden.questions, "answers": golden.answers})


def text_digest(text: str) -> str:
    return bytes_digest(text.encode("utf-8", "surrogatepass"))


def route_of(row: Row[Any]) -> Route:
    return Route(
        row.system,
        row.release,
        row.epoch,
        row.token,
        row.candidate,
        row.saga,
        seconds(row.since),
    )


def tenure_of(row: Row[Any]) -> Tenure:
    until = maybe_seconds(row.until)
    return Tenure(row.release, row.epoch, row.saga, seconds(row.since), until, bool(row.proved))


def saga_of(row: Row[Any]) -> Saga:
    with reading(f"Saga {row.id}"):
        return Saga(
            id=row.id,
            system=row.system,
            level=Level(row.level),
            source=row.source,
            target=row.target,
            epoch=row.epoch,
            state=SagaState(row.state),
            plan=json.loads(row.plan),
            plan_digest=row.plan_digest,
            by=row.ordered_by,
            reason=row.reason,
            opened_at=seconds(row.opened_at),
            closed_at=maybe_seconds(row.closed_at),
            why=row.why,
            left=tuple(json.loads(row.remaining)),
        )


def step_of(row: Row[Any]) -> StepRecord:
    with reading(f"Step {row.n} of saga {row.saga}"):
        return StepRecord(
            n=row.n,
            name=row.name,
            phase=Phase(row.phase),
            remembered=json.loads(row.remembered),
            intent_at=seconds(row.intent_at),
            done_at=maybe_seconds(row.done_at),
            proved_at=maybe_seconds(row.proved_at),
            verdict=row.verdict,
            why=row.why,
            measured=json.loads(row.measured),
            undo_intent_at=maybe_seconds(row.undo_intent_at),
            undone_at=maybe_seconds(row.undone_at),
            undo_error=row.undo_error,
        )


def replica_of(row: Row[Any]) -> Replica:
    with reading(f"The report of replica {row.name}"):
        return Replica(
            name=row.name,
            url=row.url,
            release=row.release,
            epoch=row.epoch,
            loaded=tuple(json.loads(row.loaded)),
            refused=json.loads(row.refused),
            age=max(0.0, seconds(row.age)),
            token=row.token,
        )


def entry_of(row: Row[Any]) -> AuditEntry:
    with reading(f"Audit entry {row.n}"):
        detail = json.loads(row.detail)
    return AuditEntry(
        n=row.n,
        at=seconds(row.at),
        system=row.system,
        who=row.who,
        what=row.what,
        saga=row.saga,
        detail=detail,
        previous=row.previous,
        digest=row.digest,
    )


def named(releases: Collection[str]) -> str:
    """Release ids for a sentence."""
    return " or ".join(release[:12] or "nothing" for release in sorted(releases)) or "nothing"
