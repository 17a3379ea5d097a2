"""What was given up, in the journal: marked before anything is deleted, and told."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Row, Select, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.leases import already_open
from ebbtide.adapters.journal.records import evidence_of, plain, seconds
from ebbtide.adapters.journal.releases import require_release
from ebbtide.adapters.journal.schema import given_up, quarantine, releases, routes, sagas
from ebbtide.core.errors import Conflict
from ebbtide.core.release import Evidence
from ebbtide.core.saga import SagaState


class GivenUpReleases:
    """The part of `ebbtide.core.journal.Journal` that knows what was given up."""

    _database: Database

    def give_up(
        self, system: str, releases: Collection[str], *, epoch: int, by: str, reason: str
    ) -> None:
        """Mark releases as given up, all or none. Idempotent.

        Raises `Conflict` where the route is not at `epoch` any more or names one
        of them, `SagaOpen` where a saga is open, `Unknown`.
        """
        with writing(self._database) as write:
            _refuse_in_use(write, system, releases, epoch)
            query = select(given_up.c.release).where(given_up.c.system == system)
            before = set(write.connection.scalars(query))
            new = sorted(set(releases) - before)
            for release in new:
                require_release(write.connection, release, system)
                row = {"system": system, "release": release, "at": write.now}
                write.connection.execute(given_up.insert(), row)
            if new:
                write.append(
                    What.GIVEN_UP, system=system, who=by, releases=new, reason=plain(reason)
                )

    def given_up(self, system: str) -> Mapping[str, float]:
        """When each release was given up, by id."""
        query = select(given_up).where(given_up.c.system == system).order_by(given_up.c.release)
        with self._database.read() as connection:
            return {row.release: seconds(row.at) for row in connection.execute(query)}

    def pinned_by(self, digest: str) -> frozenset[str]:
        """The releases of any system that pin that content and are not given up."""
        kept = releases.c.id.not_in(select(given_up.c.release))
        pins = releases.c.manifest.contains(f'"digest":"{digest}"', autoescape=True)
        with self._database.read() as connection:
            return frozenset(connection.scalars(select(releases.c.id).where(kept, pins)))

    def denied_since(self, system: str) -> Mapping[str, float]:
        """Since when each content is denied, by digest."""
        query = select(quarantine.c.digest, quarantine.c.at).where(quarantine.c.system == system)
        with self._database.read() as connection:
            return {row.digest: seconds(row.at) for row in connection.execute(query)}

    def refreshed(self, system: str) -> list[tuple[str, Evidence]]:
        """The releases whose evidence says that they refresh another, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(_refreshes(system)).all()
        found = [(row.id, evidence_of(row)) for row in rows]
        return [(release, evidence) for release, evidence in found if evidence.refreshes]


def _refuse_in_use(write: Writing, system: str, wanted: Collection[str], epoch: int) -> None:
    busy = select(sagas).where(sagas.c.system == system, sagas.c.state == SagaState.OPEN.value)
    row = write.connection.execute(busy).one_or_none()
    if row is not None:
        raise already_open(row, write.now)
    route = _route(write, system)
    now = route.epoch if route else 0
    named = {route.release, route.candidate} if route else set()
    if now != epoch or not named.isdisjoint(wanted):
        raise Conflict(
            f"The route of `{system}` is at epoch {now}, not at {epoch} where this was found.",
            remedy="Look again: `ebbtide gc`.",
        )


def _route(write: Writing, system: str) -> Row[Any] | None:
    query = select(routes).where(routes.c.system == system)
    return write.connection.execute(query).one_or_none()


def _refreshes(system: str) -> Select[Any]:
    names = releases.c.evidence.contains('"refreshes":"', autoescape=True)
    query = select(releases.c.id, releases.c.evidence)
    return query.where(releases.c.system == system, names).order_by(releases.c.entry.desc())
