"""Fences in the journal: which saga holds back the writers of which tables."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.records import seconds
from ebbtide.adapters.journal.schema import fences
from ebbtide.core.fences import Fence
from ebbtide.core.lease import Lease


class KeptFences:
    """The part of `ebbtide.core.journal.Journal` that keeps fences."""

    _database: Database

    def raise_fence(self, lease: Lease, tables: Collection[str]) -> None:
        """Write down that these tables' writers are held back. Idempotent.

        A system has one open saga, so a fence of another is one that ended
        without lifting it: it becomes this saga's. Raises `Fenced`.
        """
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            standing = {row.name: row.saga for row in _rows(write, lease.system)}
            new = [name for name in sorted(set(tables)) if standing.get(name) != lease.saga]
            for name in new:
                _remove(write, lease.system, name)
                write.connection.execute(fences.insert(), _row(write, lease, name))
            if new:
                was = {name: standing[name] for name in new if name in standing}
                _tell(write, What.FENCE_RAISED, lease, by, tables=new, was=was)

    def lift_fence(self, lease: Lease, tables: Collection[str]) -> None:
        """Let them go. Idempotent; another saga's fence stays. Raises `Fenced`."""
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            mine = {row.name for row in _rows(write, lease.system) if row.saga == lease.saga}
            gone = sorted(mine & set(tables))
            for name in gone:
                _remove(write, lease.system, name)
            if gone:
                _tell(write, What.FENCE_LIFTED, lease, by, tables=gone)

    def fences(self, system: str) -> list[Fence]:
        """What is held back now, by table."""
        query = select(fences).where(fences.c.system == system).order_by(fences.c.name)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [Fence(row.name, row.saga, row.epoch, seconds(row.since)) for row in rows]


def _rows(write: Writing, system: str) -> list[Row[Any]]:
    query = select(fences.c.name, fences.c.saga).where(fences.c.system == system)
    return list(write.connection.execute(query))


def _row(write: Writing, lease: Lease, name: str) -> dict[str, Any]:
    return {
        "system": lease.system,
        "name": name,
        "saga": lease.saga,
        "epoch": lease.epoch,
        "since": write.now,
    }


def _remove(write: Writing, system: str, name: str) -> None:
    write.connection.execute(
        fences.delete().where(fences.c.system == system, fences.c.name == name)
    )


def _tell(write: Writing, what: What, lease: Lease, by: str, **detail: Any) -> None:
    write.append(what, system=lease.system, who=by, saga=lease.saga, **detail)
