"""What is looked at before a saga is opened: a damaged journal is no ground to act on.

Quick, whatever the journal's age: whether entries are missing, the newest of
them, and the route. `ebbtide verify` looks at all of it.
"""

from collections.abc import Iterator
from itertools import pairwise

from sqlalchemy import Connection, func, select

from ebbtide.adapters.journal.audit import What, digest_of
from ebbtide.adapters.journal.records import entry_of
from ebbtide.adapters.journal.schema import audit, audit_head, routes
from ebbtide.core.errors import Tampered

_NEWEST = 200
"""Entries: those of the last three sagas, and some."""
_MOVED = (What.ROUTE_SWITCHED.value, What.ROUTE_RETURNED.value)


def require_sound(connection: Connection, system: str) -> None:
    """Raises `Tampered` with what is wrong."""
    found = next(_faults(connection, system), "")
    if found:
        raise Tampered(
            f"{found} Nothing was touched.",
            remedy="`ebbtide verify` tells all that is wrong. Keep the journal as evidence and"
            " restore its newest backup; until then roll back by hand.",
        )


def _faults(connection: Connection, system: str) -> Iterator[str]:
    head = connection.execute(select(audit_head)).one()
    rows = connection.scalar(select(func.count()).select_from(audit))
    if rows != head.entries:
        yield f"The audit trail has {rows} entries and should have {head.entries}."
    newest = connection.execute(select(audit).order_by(audit.c.n.desc()).limit(_NEWEST)).all()
    entries = [entry_of(row) for row in newest]
    if entries and entries[0].digest != head.digest:
        yield "The head of the audit trail is not its newest entry."
    for entry in entries:
        if digest_of(entry) != entry.digest:
            yield f"Audit entry {entry.n} was changed after it was written."
    for later, earlier in pairwise(entries):
        if later.previous != earlier.digest:
            yield f"Audit entry {later.n} does not follow entry {earlier.n}."
    yield from _route(connection, system)


def _route(connection: Connection, system: str) -> Iterator[str]:
    """The route is where the trail's newest word of it has it."""
    query = select(audit).where(audit.c.system == system, audit.c.what.in_(_MOVED))
    moved = connection.execute(query.order_by(audit.c.n.desc()).limit(1)).one_or_none()
    row = connection.execute(select(routes).where(routes.c.system == system)).one_or_none()
    told = entry_of(moved).detail if moved is not None else {"release": "", "epoch": 0, "token": ""}
    shown = (row.release, row.epoch, row.token) if row is not None else ("", 0, "")
    if shown != (told["release"], told["epoch"], told["token"]):
        yield f"The route of `{system}` was not moved there by a saga."
