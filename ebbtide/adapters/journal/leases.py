"""Who may write for a saga: leases, by the database's clock alone.

No host's clock decides anything: a lease is renewed, expires and is taken over
by the time of the database that keeps it.
"""

import os
import secrets
import socket
from typing import Any

from sqlalchemy import Row, select

from ebbtide.adapters.journal.audit import What, Writing, fenced, still_held, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.records import looked_up, plain, saga_of, seconds
from ebbtide.adapters.journal.schema import micros, sagas
from ebbtide.core.errors import Refused, SagaOpen
from ebbtide.core.lease import Lease
from ebbtide.core.saga import Saga, SagaState

LEASE_SECONDS = 15
"""How long a lease lasts unless it is renewed."""


class Leases:
    """The part of `ebbtide.core.journal.Journal` that says who may write for a saga."""

    _database: Database

    def renew(self, lease: Lease) -> None:
        """Hold the lease for another 15 seconds. Raises `Fenced`."""
        with self._database.write() as connection:
            renewed = connection.execute(
                sagas.update()
                .where(
                    sagas.c.id == lease.saga,
                    sagas.c.system == lease.system,
                    sagas.c.state == SagaState.OPEN.value,
                    sagas.c.holder == lease.holder,
                    sagas.c.lease_epoch == lease.epoch,
                )
                .values(lease_until=until())
            ).rowcount
        if renewed != 1:
            raise fenced(lease)

    def hold(self, lease: Lease) -> None:
        """Raises `Fenced` where the lease was taken over or its saga is closed. Reads only."""
        with self._database.read() as connection:
            still_held(connection, lease)

    def abandoned(self, system: str = "") -> list[Saga]:
        """Open sagas whose lease has run out, oldest first; of all systems where it is empty."""
        query = select(sagas).where(
            sagas.c.state == SagaState.OPEN.value, sagas.c.lease_until < micros()
        )
        if system:
            query = query.where(sagas.c.system == system)
        with self._database.read() as connection:
            return [saga_of(row) for row in connection.execute(query.order_by(sagas.c.entry))]

    def take_over(self, saga: str, *, by: str) -> Lease:
        """Hold an abandoned saga, or one that needed a person, under a new lease epoch.

        From then on every write of the former holder is `Fenced`. Raises
        `SagaOpen` where the lease still runs, `Refused` where there is nothing
        to recover, `Unknown`.
        """
        with writing(self._database) as write:
            row = looked_up(write.connection, select(sagas), sagas.c.id, saga, "saga")
            _refuse_unless_abandoned(write, row)
            lease = Lease(row.id, row.system, holder(), row.lease_epoch + 1)
            write.connection.execute(
                sagas.update()
                .where(sagas.c.id == row.id)
                .values(
                    state=SagaState.OPEN.value,
                    closed_at=None,
                    holder=lease.holder,
                    lease_epoch=lease.epoch,
                    lease_until=until(),
                )
            )
            write.append(
                What.SAGA_TAKEN_OVER,
                system=row.system,
                who=plain(by),
                saga=row.id,
                holder=lease.holder,
                lease_epoch=lease.epoch,
                was=row.state,
            )
            return lease


def holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def until() -> Any:
    """When a lease that is granted now runs out."""
    return micros() + LEASE_SECONDS * 1_000_000


def already_open(row: Row[Any], now: int) -> SagaOpen:
    """Why no other saga of the system can begin, and what helps."""
    dead = row.lease_until < now
    return SagaOpen(
        f"Saga {row.id} of `{row.system}` is open: {row.level} to {row.target[:12]},"
        f" ordered by {row.ordered_by}."
        + (f" Its process has not been heard of for {_since(row, now):.0f} s." if dead else ""),
        remedy=f"Finish it: ebbtide recover {row.system}."
        if dead
        else "Follow it with `ebbtide status`.",
    )


def _since(row: Row[Any], now: int) -> float:
    return seconds(now - row.lease_until) + LEASE_SECONDS


def _refuse_unless_abandoned(write: Writing, row: Row[Any]) -> None:
    if row.state == SagaState.OPEN:
        if row.lease_until >= write.now:
            raise already_open(row, write.now)
        return
    if row.state != SagaState.NEEDS_HUMAN:
        raise Refused(f"Saga {row.id} has ended as `{row.state}`: there is nothing to recover.")
    newer = write.connection.execute(
        select(sagas.c.id).where(sagas.c.system == row.system, sagas.c.entry > row.entry).limit(1)
    ).scalar()
    if newer is not None:
        raise Refused(
            f"Saga {row.id} is not the newest of `{row.system}` any more: {newer} came after it.",
            remedy="What it left is the newer saga's by now: look at `ebbtide status`.",
        )
