"""`SqlJournal`: the journal port on one SQL database."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Insert, Row, select

from ebbtide.adapters.journal.audit import What, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.debts import KeptDebts
from ebbtide.adapters.journal.effects import Effects
from ebbtide.adapters.journal.fences import KeptFences
from ebbtide.adapters.journal.forgotten_effects import ForgottenEffects
from ebbtide.adapters.journal.given_up import GivenUpReleases
from ebbtide.adapters.journal.leases import Leases
from ebbtide.adapters.journal.opening import bring_up_to_date
from ebbtide.adapters.journal.outputs import Outputs
from ebbtide.adapters.journal.recalls import Recalls
from ebbtide.adapters.journal.records import (
    entry_of,
    packed,
    plain,
    replica_of,
    report,
    seconds,
)
from ebbtide.adapters.journal.releases import Releases
from ebbtide.adapters.journal.routes import Routes
from ebbtide.adapters.journal.sagas import Sagas
from ebbtide.adapters.journal.schema import audit, audit_head, micros, quarantine, replicas
from ebbtide.adapters.journal.settled_effects import SettledEffects
from ebbtide.adapters.journal.steps import Steps
from ebbtide.adapters.journal.verification import problems
from ebbtide.core.errors import Tampered
from ebbtide.core.journal import AuditEntry, Replica
from ebbtide.core.lease import Lease

_FORGOTTEN_AFTER = 24 * 3600
"""Seconds after which a silent replica's row goes: names may never come back."""


class SqlJournal(
    KeptDebts,
    Effects,
    KeptFences,
    ForgottenEffects,
    GivenUpReleases,
    Leases,
    Outputs,
    Recalls,
    Releases,
    Routes,
    Sagas,
    SettledEffects,
    Steps,
):
    """Satisfies `ebbtide.core.journal.Journal`; every method may be called from any thread.

    Each write is one transaction, on disk when the method returns, with its
    audit entry in it; renewed leases and replicas' reports alone have none.
    All clocks are the database's: milliseconds on SQLite, microseconds on
    PostgreSQL.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Give the database's connections back."""
        self._database.close()

    def quarantine(self, lease: Lease, digests: Mapping[str, str], reason: str) -> None:
        """Deny contents; `digests` maps a release id or a pin's digest to what it is.

        What is denied already stays so, for its first reason.
        """
        query = select(quarantine.c.digest).where(quarantine.c.system == lease.system)
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            denied = set(write.connection.scalars(query))
            new = {digest: plain(what) for digest, what in digests.items() if digest not in denied}
            for digest, what in sorted(new.items()):
                write.connection.execute(
                    quarantine.insert().values(
                        system=lease.system,
                        digest=digest,
                        what=what,
                        reason=plain(reason),
                        saga=lease.saga,
                        at=write.now,
                    )
                )
            if new:
                write.append(
                    What.QUARANTINED,
                    system=lease.system,
                    who=by,
                    saga=lease.saga,
                    digests=new,
                    reason=reason,
                )

    def lift_quarantine(
        self, system: str, digests: Collection[str], *, by: str, reason: str
    ) -> Mapping[str, str]:
        """Deny contents no longer; those that were denied, with why, by digest.

        No lease is needed: no saga does this, a person does, whose name and
        reason go into the audit trail.
        """
        mine = (quarantine.c.system == system) & quarantine.c.digest.in_(list(digests))
        with writing(self._database) as write:
            rows = write.connection.execute(
                select(quarantine).where(mine).order_by(quarantine.c.digest)
            ).all()
            lifted = {row.digest: _denied(row) for row in rows}
            if lifted:
                write.connection.execute(quarantine.delete().where(mine))
                write.append(
                    What.QUARANTINE_LIFTED, system=system, who=by, digests=lifted, reason=reason
                )
        return lifted

    def quarantined(self, system: str) -> Mapping[str, str]:
        """Why each denied content is denied (`what it is: reason`), by digest."""
        query = select(quarantine).where(quarantine.c.system == system)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(quarantine.c.digest)).all()
        return {row.digest: _denied(row) for row in rows}

    def report(self, system: str, replica: Replica) -> None:
        """A replica tells how it stands; its `age` is not looked at."""
        stale = micros() - _FORGOTTEN_AFTER * 1_000_000
        with self._database.write() as connection:
            connection.execute(_newest(system, replica, self._database.is_sqlite))
            connection.execute(
                replicas.delete().where(replicas.c.system == system, replicas.c.seen_at < stale)
            )

    def replicas(self, system: str, within: float) -> list[Replica]:
        """Those that reported in the last `within` seconds, by name."""
        age = micros() - replicas.c.seen_at
        query = select(replicas, age.label("age")).where(
            replicas.c.system == system, age <= round(within * 1_000_000)
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(replicas.c.name)).all()
        return [replica_of(row) for row in rows]

    def forget(self, system: str, name: str, url: str) -> None:
        """A replica has ended. Only with that URL: its name may be another's by now."""
        mine = (replicas.c.system == system) & (replicas.c.name == plain(name))
        with self._database.write() as connection:
            connection.execute(replicas.delete().where(mine, replicas.c.url == plain(url)))

    def audit(self, system: str, limit: int = 100) -> list[AuditEntry]:
        """The newest entries of a system, newest first; of all systems where it is empty."""
        query = select(audit).order_by(audit.c.n.desc()).limit(limit)
        if system:
            query = query.where(audit.c.system == system)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [entry_of(row) for row in rows]

    def verify(self) -> list[str]:
        """What is wrong with the audit trail and the records that it vouches for.

        A trail that somebody wrote anew from an entry on, its head too, does
        not show here: compare the head with a copy that is kept elsewhere.
        """
        try:
            with self._database.read() as connection:
                return problems(connection)
        except Tampered as fault:
            return [fault.message]

    def now(self) -> float:
        """Seconds since the epoch by the database's clock."""
        with self._database.read() as connection:
            return seconds(connection.execute(select(micros())).scalar_one())

    def try_write(self) -> None:
        """Begin a write and leave it: raises `Unreachable` where none could be made now."""
        with self._database.write() as connection:
            # No row is like this; the right to write, and the lock, are needed all the same.
            connection.execute(audit_head.update().where(audit_head.c.id == 0).values(id=0))


def open_journal(url: str) -> SqlJournal:
    """The journal at `sqlite:////path` (made where it is not there) or `postgresql://...`.

    Raises `BadConfiguration` for a URL that cannot be one and for a schema that
    is newer than this ebbtide, `Unreachable`, and `Tampered` for a damaged file.
    """
    database = Database(url)
    try:
        bring_up_to_date(database)
    except BaseException:
        database.close()
        raise
    return SqlJournal(database)


def _denied(row: Row[Any]) -> str:
    return f"{row.what}: {row.reason}"


def _newest(system: str, replica: Replica, sqlite: bool) -> Insert:
    told = {
        "url": plain(replica.url),
        "release": replica.release,
        "epoch": replica.epoch,
        "token": replica.token,
        "loaded": packed(list(replica.loaded)),
        "refused": packed(report(replica.refused)),
        "seen_at": micros(),
    }
    keys = {"system": system, "name": plain(replica.name)}
    # The two dialects spell the same statement in classes of their own.
    if sqlite:
        from sqlalchemy.dialects import sqlite as dialect

        return (
            dialect.insert(replicas)
            .values(**keys, **told)
            .on_conflict_do_update(index_elements=list(keys), set_=told)
        )
    from sqlalchemy.dialects import postgresql

    return (
        postgresql.insert(replicas)
        .values(**keys, **told)
        .on_conflict_do_update(index_elements=list(keys), set_=told)
    )
