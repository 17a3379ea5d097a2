"""The route in the journal: compare-and-set by epoch, and who served when."""

from collections.abc import Collection

from sqlalchemy import func, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.records import named, route_of, tenure_of
from ebbtide.adapters.journal.releases import require_release
from ebbtide.adapters.journal.schema import micros, routes, tenures
from ebbtide.core.errors import Conflict
from ebbtide.core.journal import Route
from ebbtide.core.lease import Lease
from ebbtide.core.tenure import Tenure


class Routes:
    """The part of `ebbtide.core.journal.Journal` that keeps the route."""

    _database: Database

    def route(self, system: str) -> Route | None:
        """The route; its `release` is empty where the system serves nothing by now or yet.

        None only for a system that never had one. The row stays when the route
        is cleared, because its epoch must never go back.
        """
        query = select(routes).where(routes.c.system == system)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return route_of(row) if row is not None else None

    def switch_route(self, lease: Lease, *, expected: int, to: str, token: str) -> Route:
        """Compare-and-set: only where the route is at the epoch `expected`.

        Returns the route, its epoch one higher; the route as it is, where this
        saga has set it to `to` already. Raises `Conflict` else, `Unknown` for
        a release that the system does not have.
        """
        return self._set(What.ROUTE_SWITCHED, lease, expected, to, token)

    def return_route(self, lease: Lease, *, expected: int, to: str, token: str) -> Route | None:
        """Switch back as a new epoch; `to` empty: the system serves nothing, as before.

        As `switch_route` where this was done already, and where it cannot be.
        """
        return self._set(What.ROUTE_RETURNED, lease, expected, to, token)

    def set_candidate(self, lease: Lease, release: str, *, only_from: Collection[str]) -> None:
        """Ask the replicas to hold a release warm; empty: none any more.

        Does nothing where it is the candidate already. Raises `Conflict` where
        the candidate is none of `only_from` (an empty text there: no candidate).
        """
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            if release:
                require_release(write.connection, release, lease.system)
            was = _route(write, lease.system)
            if was.candidate == release:
                return
            if was.candidate not in only_from:
                raise Conflict(
                    f"The candidate of `{lease.system}` is {named([was.candidate])},"
                    f" not {named(only_from)}.",
                    remedy="Another order has changed it: plan again.",
                )
            write.connection.execute(
                routes.update().where(routes.c.system == lease.system).values(candidate=release)
            )
            write.append(
                What.CANDIDATE_SET,
                system=lease.system,
                who=by,
                saga=lease.saga,
                candidate=release,
                was=was.candidate,
            )

    def tenures(self, system: str, limit: int | None = None) -> list[Tenure]:
        """Who served when, newest first. One served at `t` where since <= t < until."""
        query = select(tenures).where(tenures.c.system == system)
        with self._database.read() as connection:
            newest = query.order_by(tenures.c.epoch.desc()).limit(limit)
            rows = connection.execute(newest).all()
        return [tenure_of(row) for row in rows]

    def proved(self, system: str, served_for: float = 0.0) -> list[str]:
        """Ids of the releases with a proved tenure of at least so many seconds, newest first."""
        lasted = func.coalesce(tenures.c.until, micros()) - tenures.c.since
        query = (
            select(tenures.c.release)
            .where(tenures.c.system == system, tenures.c.proved.is_(True))
            .group_by(tenures.c.release)
            .order_by(func.max(tenures.c.epoch).desc())
        )
        if served_for > 0:
            query = query.where(lasted >= round(served_for * 1_000_000))
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def mark_proved(self, lease: Lease, epoch: int) -> None:
        """Mark the tenure that `epoch` began. Raises `Conflict` where it is not this saga's."""
        mine = (
            (tenures.c.system == lease.system)
            & (tenures.c.epoch == epoch)
            & (tenures.c.saga == lease.saga)
        )
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            tenure = write.connection.execute(select(tenures).where(mine)).one_or_none()
            if tenure is None:
                raise Conflict(f"Saga {lease.saga} did not set epoch {epoch} of `{lease.system}`.")
            if tenure.proved:
                return
            write.connection.execute(tenures.update().where(mine).values(proved=True))
            write.append(
                What.RELEASE_PROVED,
                system=lease.system,
                who=by,
                saga=lease.saga,
                release=tenure.release,
                epoch=epoch,
            )

    def _set(self, what: What, lease: Lease, expected: int, to: str, token: str) -> Route:
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            if to:
                require_release(write.connection, to, lease.system)
            was = _route(write, lease.system)
            if was.saga == lease.saga and was.release == to and was.epoch > expected:
                return was
            _compare_and_set(write, lease, expected, to, token)
            _start_tenure(write, lease, expected + 1, to)
            write.append(
                what,
                system=lease.system,
                who=by,
                saga=lease.saga,
                release=to,
                epoch=expected + 1,
                token=token,
                was=was.release,
            )
            return _route(write, lease.system)


def _route(write: Writing, system: str) -> Route:
    """The system's route; one of epoch 0 that serves nothing is begun where there is none."""
    query = select(routes).where(routes.c.system == system)
    row = write.connection.execute(query).one_or_none()
    if row is not None:
        return route_of(row)
    write.connection.execute(
        routes.insert().values(
            system=system,
            release="",
            epoch=0,
            token="",
            candidate="",
            saga="",
            since=write.now,
        )
    )
    return route_of(write.connection.execute(query).one())


def _compare_and_set(write: Writing, lease: Lease, expected: int, to: str, token: str) -> None:
    changed = write.connection.execute(
        routes.update()
        .where(routes.c.system == lease.system, routes.c.epoch == expected)
        .values(
            release=to,
            epoch=expected + 1,
            token=token,
            saga=lease.saga,
            since=write.now,
        )
    ).rowcount
    if changed != 1:
        now = _route(write, lease.system)
        raise Conflict(
            f"The route of `{lease.system}` is at epoch {now.epoch} ({named([now.release])}),"
            f" not at {expected}.",
            remedy="Another order has moved it: plan again.",
        )


def _start_tenure(write: Writing, lease: Lease, epoch: int, release: str) -> None:
    running = (tenures.c.system == lease.system) & tenures.c.until.is_(None)
    write.connection.execute(tenures.update().where(running).values(until=write.now))
    if release:
        write.connection.execute(
            tenures.insert().values(
                system=lease.system,
                epoch=epoch,
                release=release,
                saga=lease.saga,
                since=write.now,
                until=None,
                proved=False,
            )
        )
