"""The audit trail: every entry carries the hash of the one before.

An entry is written in the transaction of what it tells, so neither can be
there without the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.ready import Ready
from ebbtide.adapters.journal.records import packed, plain, report, seconds
from ebbtide.adapters.journal.schema import audit, audit_head, micros, sagas
from ebbtide.core.crashpoints import reach
from ebbtide.core.digests import digest
from ebbtide.core.errors import Fenced, Tampered
from ebbtide.core.journal import AuditEntry
from ebbtide.core.lease import Lease
from ebbtide.core.saga import SagaState


class What(StrEnum):
    """What an entry tells."""

    RELEASE_RECORDED = "release recorded"
    EVIDENCE_ADDED = "evidence added"
    ROUTE_SWITCHED = "route switched"
    ROUTE_RETURNED = "route returned"
    CANDIDATE_SET = "candidate set"
    RELEASE_PROVED = "release proved"
    SAGA_OPENED = "saga opened"
    SAGA_CLOSED = "saga closed"
    SAGA_TAKEN_OVER = "saga taken over"
    OWED = "projection owed"
    PAID = "projection paid"
    TARGET_RECORDED = "target recorded"
    STEP_INTENDED = "step intended"
    STEP_DONE = "step done"
    STEP_FOUND = "step found"
    UNDO_INTENDED = "undo intended"
    STEP_UNDONE = "step undone"
    UNDO_FAILED = "undo failed"
    GIVEN_UP = "releases given up"
    KEPT_AGAIN = "release kept again"
    QUARANTINED = "contents quarantined"
    QUARANTINE_LIFTED = "quarantine lifted"
    FENCE_RAISED = "fence raised"
    FENCE_LIFTED = "fence lifted"
    OUTPUT_RUN_BEGUN = "output run begun"
    OUTPUT_BEGUN = "output begun"
    OUTPUT_WRITTEN = "output written"
    OUTPUTS_RECALLED = "outputs recalled"
    OUTPUTS_MARKED = "outputs marked"
    OUTPUT_READ = "output read"
    EFFECT_QUEUED = "effect queued"
    EFFECT_CLAIMED = "effect claimed"
    EFFECT_ENDED = "effect ended"
    EFFECTS_HELD = "effects held"
    EFFECTS_LET_GO = "effects let go"
    EFFECTS_SETTLED = "effects settled"
    EFFECTS_FORGOTTEN = "effects forgotten"


# Made once: a saga makes some fifty writes of several statements each, and
# building a statement costs more than running it.
_HEAD = Ready(select(audit_head.c.entries, audit_head.c.digest).with_for_update())
_NEW_HEAD = Ready(audit_head.update(), ("entries", "digest"))
_ENTRY = Ready(audit.insert())
_NOW = Ready(select(micros()))
_HOLDER = Ready(
    select(
        sagas.c.system, sagas.c.state, sagas.c.holder, sagas.c.lease_epoch, sagas.c.ordered_by
    ).where(sagas.c.id == bindparam("saga"))
)


class Writing:
    """One write transaction that holds the head of the audit trail."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        # First of all, and always: on PostgreSQL this lock puts writers into one
        # row, so the trail cannot fork and two writes cannot deadlock.
        head = _HEAD.run(connection).one_or_none()
        if head is None:
            raise Tampered("The head of the audit trail is gone.", remedy="Run `ebbtide verify`.")
        self._entries, self._last = int(head.entries), str(head.digest)
        # Read after the lock was had, so that moments follow the entries' order.
        self.now = int(_NOW.run(connection).scalar_one())

    @property
    def next_entry(self) -> int:
        return self._entries + 1

    def append(self, what: What, *, system: str, who: str, saga: str = "", **detail: Any) -> None:
        entry = {
            "n": self.next_entry,
            "at": self.now,
            "system": system,
            "who": plain(who),
            "what": str(what),
            "saga": saga,
            "detail": packed(report(detail)),
            "previous": self._last,
        }
        made = _entry_digest(**{**entry, "at": seconds(self.now), "detail": report(detail)})
        _ENTRY.run(self.connection, {**entry, "digest": made})
        _NEW_HEAD.run(self.connection, {"entries": entry["n"], "digest": made})
        self._entries, self._last = self.next_entry, made

    def fence(self, lease: Lease) -> Row[Any]:
        """The saga's row, where this lease still holds it. Raises `Fenced`."""
        return still_held(self.connection, lease)


def still_held(connection: Connection, lease: Lease) -> Row[Any]:
    """Who holds the saga, where this lease still does. Raises `Fenced`."""
    row = _HOLDER.run(connection, {"saga": lease.saga}).one_or_none()
    if row is None or not held(row, lease) or row.state != SagaState.OPEN:
        raise fenced(lease)
    return row


def held(row: Row[Any], lease: Lease) -> bool:
    return (row.system, row.holder, row.lease_epoch) == (
        lease.system,
        lease.holder,
        lease.epoch,
    )


def fenced(lease: Lease) -> Fenced:
    return Fenced(
        f"Saga {lease.saga} of `{lease.system}` is not this process's to write any more.",
        remedy="Stop here: `ebbtide status` tells who has it, or how it ended.",
    )


@contextmanager
def writing(database: Database) -> Iterator[Writing]:
    """A write with its audit entry, in one transaction."""
    with database.write() as connection:
        yield Writing(connection)
        reach("journal/uncommitted")


def digest_of(entry: AuditEntry) -> str:
    """What an entry's digest must be, by all else that it says."""
    return _entry_digest(
        n=entry.n,
        at=entry.at,
        system=entry.system,
        who=entry.who,
        what=entry.what,
        saga=entry.saga,
        detail=entry.detail,
        previous=entry.previous,
    )


def _entry_digest(
    *,
    n: int,
    at: float,
    system: str,
    who: str,
    what: str,
    saga: str,
    detail: Any,
    previous: str,
) -> str:
    """sha256 of an entry's canonical form; `at` in seconds, as `AuditEntry` has it."""
    return digest(
        {
            "n": n,
            "at": at,
            "system": system,
            "who": who,
            "what": what,
            "saga": saga,
            "detail": detail,
            "previous": previous,
        }
    )
