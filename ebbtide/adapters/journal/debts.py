"""Debts in the journal: which projections have yet to follow the route."""

from sqlalchemy import ColumnElement, select

from ebbtide.adapters.journal.audit import What, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.leases import already_open
from ebbtide.adapters.journal.records import plain, seconds
from ebbtide.adapters.journal.schema import debts, routes, sagas
from ebbtide.core.debts import Debt
from ebbtide.core.errors import Conflict
from ebbtide.core.lease import Lease
from ebbtide.core.saga import SagaState


class KeptDebts:
    """The part of `ebbtide.core.journal.Journal` that keeps debts."""

    _database: Database

    def owe(self, lease: Lease, layer: str, name: str, why: str) -> None:
        """The thing's projection is to follow later. Idempotent; the first reason stays."""
        mine = _one(lease.system, layer, name)
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            if write.connection.execute(select(debts).where(mine)).one_or_none() is not None:
                return
            write.connection.execute(
                debts.insert().values(
                    system=lease.system,
                    layer=layer,
                    name=name,
                    saga=lease.saga,
                    since=write.now,
                    why=plain(why),
                )
            )
            thing = f"{layer}/{name}"
            write.append(
                What.OWED, system=lease.system, who=by, saga=lease.saga, thing=thing, why=why
            )

    def debts(self, system: str) -> list[Debt]:
        """What is owed, oldest first."""
        query = select(debts).where(debts.c.system == system)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(debts.c.since, debts.c.name)).all()
        return [Debt(row.layer, row.name, row.saga, seconds(row.since), row.why) for row in rows]

    def pay(self, system: str, layer: str, name: str, *, epoch: int, by: str) -> None:
        """It shows what the route of that epoch says. Idempotent.

        Raises `Conflict` where the route has moved on, `SagaOpen` where a saga
        is about to: the debt stays.
        """
        mine = _one(system, layer, name)
        with writing(self._database) as write:
            row = write.connection.execute(select(debts).where(mine)).one_or_none()
            if row is None:
                return
            busy = write.connection.execute(
                select(sagas).where(sagas.c.system == system, sagas.c.state == SagaState.OPEN.value)
            ).one_or_none()
            if busy is not None:
                raise already_open(busy, write.now)
            now = write.connection.scalar(select(routes.c.epoch).where(routes.c.system == system))
            if (now or 0) != epoch:
                raise Conflict(f"The route of `{system}` has moved on to epoch {now}.")
            write.connection.execute(debts.delete().where(mine))
            thing = f"{layer}/{name}"
            write.append(What.PAID, system=system, who=plain(by), saga=row.saga, thing=thing)


def _one(system: str, layer: str, name: str) -> ColumnElement[bool]:
    return (debts.c.system == system) & (debts.c.layer == layer) & (debts.c.name == name)
