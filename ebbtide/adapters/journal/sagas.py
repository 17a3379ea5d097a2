"""Sagas in the journal: opened once, leased to one process, closed for good."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from ebbtide.adapters.journal.audit import What, Writing, held, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.leases import already_open, holder, until
from ebbtide.adapters.journal.records import (
    looked_up,
    named,
    packed,
    plain,
    saga_of,
    seconds,
    text_digest,
)
from ebbtide.adapters.journal.releases import record_composed
from ebbtide.adapters.journal.schema import given_up, routes, sagas, steps, tenures
from ebbtide.adapters.journal.soundness import require_sound
from ebbtide.core.errors import Conflict, PlanChanged
from ebbtide.core.journal import Run
from ebbtide.core.lease import Lease
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Plan, Saga, SagaState

_SAMPLES = 50
"""Newest completed sagas that durations are told of."""


class Sagas:
    """The part of `ebbtide.core.journal.Journal` that keeps sagas."""

    _database: Database

    def open_saga(
        self,
        plan: Plan,
        *,
        by: str,
        reason: str,
        key: str = "",
        composed: Release | None = None,
    ) -> tuple[Saga, Lease]:
        """Open the one saga of a system. Raises `SagaOpen` where one is open,
        `PlanChanged` where the route is not at the plan's source and epoch, `Tampered`
        where the journal is damaged, as far as a quick look tells.

        `composed`: the target, to be recorded in the same transaction where it is
        new. A saga that never opens leaves no release behind.

        `key` makes an order idempotent: where the system has a closed saga of
        that key, this very saga is returned with a lease of epoch 0, which
        every write refuses. Look at its `state`; it is not to be run again.
        """
        with writing(self._database) as write:
            recorded = _ordered_before(write, plan.system, key)
            if recorded is not None:
                return saga_of(recorded), Lease(recorded.id, plan.system, "", 0)
            _refuse_second(write, plan.system)
            require_sound(write.connection, plan.system)
            _require_source(write, plan)
            if composed is not None:
                old = plan.source if plan.level is Level.REFRESH else ""
                record_composed(write, composed, plain(by), plain(reason), refreshes=old)
            _refuse_given_up(write, plan.target)
            lease = Lease(secrets.token_hex(8), plan.system, holder(), 1)
            return _insert(write, plan, lease, plain(by), plain(reason), key), lease

    def record_target(self, lease: Lease, release: Release) -> None:
        """What the saga's target has become, now that all of it is made. Idempotent.

        Records the release as composed where it is new. Raises `Conflict` where
        the saga has another whole target already.
        """
        if release.unmade:
            raise ValueError("a release that is not made yet cannot be recorded")
        with writing(self._database) as write:
            row = write.fence(lease)
            saga = write.connection.execute(select(sagas).where(sagas.c.id == lease.saga)).one()
            if saga.target == release.id:
                return
            _refuse_other_target(saga, release)
            old = saga.source if saga.level == Level.REFRESH else ""
            record_composed(write, release, row.ordered_by, saga.reason, refreshes=old)
            mine = sagas.update().where(sagas.c.id == lease.saga)
            write.connection.execute(mine.values(target=release.id))
            write.append(
                What.TARGET_RECORDED,
                system=lease.system,
                who=row.ordered_by,
                saga=lease.saga,
                target=release.id,
            )

    def close_saga(
        self, lease: Lease, state: SagaState, why: str = "", left: Sequence[str] = ()
    ) -> Saga:
        """End a saga. The same lease may say the same again; all else is `Fenced`."""
        if state is SagaState.OPEN:
            raise ValueError("a saga cannot be closed as open")
        mine = select(sagas).where(sagas.c.id == lease.saga)
        with writing(self._database) as write:
            closed = write.connection.execute(mine).one_or_none()
            if closed is not None and held(closed, lease) and closed.state == state.value:
                return saga_of(closed)
            by = write.fence(lease).ordered_by
            remaining = [plain(line) for line in left]
            write.connection.execute(
                sagas.update()
                .where(sagas.c.id == lease.saga)
                .values(
                    state=state.value,
                    closed_at=write.now,
                    why=plain(why),
                    remaining=packed(remaining),
                )
            )
            write.append(
                What.SAGA_CLOSED,
                system=lease.system,
                who=by,
                saga=lease.saga,
                state=state,
                why=why,
                left=remaining,
            )
            return saga_of(write.connection.execute(mine).one())

    def saga(self, id_or_prefix: str) -> Saga:
        """A saga by its id or a prefix of at least 6 digits. Raises `Unknown`."""
        with self._database.read() as connection:
            row = looked_up(connection, select(sagas), sagas.c.id, id_or_prefix, "saga")
        return saga_of(row)

    def saga_by_key(self, system: str, key: str) -> Saga | None:
        """The saga that an order of that key became; None where there was none."""
        query = select(sagas).where(sagas.c.system == system, sagas.c.order_key == key)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none() if key else None
        return saga_of(row) if row is not None else None

    def sagas(self, system: str, limit: int = 50) -> list[Saga]:
        """The sagas of a system, newest first."""
        query = select(sagas).where(sagas.c.system == system)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(sagas.c.entry.desc()).limit(limit)).all()
        return [saga_of(row) for row in rows]

    def durations(self, system: str, level: Level) -> Mapping[str, list[float]]:
        """Seconds from intent to proved of completed sagas' steps, by step name.

        Of the newest 50 sagas of the level, newest first.
        """
        newest = (
            select(sagas.c.id, sagas.c.entry)
            .where(*_completed(system, level))
            .order_by(sagas.c.entry.desc())
            .limit(_SAMPLES)
            .subquery()
        )
        query = (
            select(steps.c.name, steps.c.intent_at, steps.c.proved_at)
            .join(newest, newest.c.id == steps.c.saga)
            .where(steps.c.proved_at.is_not(None))
            .order_by(newest.c.entry.desc(), steps.c.n)
        )
        found: dict[str, list[float]] = {}
        with self._database.read() as connection:
            for name, intent_at, proved_at in connection.execute(query):
                # A clock that was set back tells no duration; below zero is none.
                found.setdefault(name, []).append(max(0.0, seconds(proved_at - intent_at)))
        return found

    def runs(self, system: str, level: Level, limit: int = 50) -> list[Run]:
        """How long the newest completed sagas of a level took, newest first."""
        query = (
            select(sagas.c.id, sagas.c.opened_at, sagas.c.closed_at, tenures.c.since)
            .outerjoin(
                tenures,
                (tenures.c.system == sagas.c.system)
                & (tenures.c.epoch == sagas.c.epoch + 1)
                & (tenures.c.saga == sagas.c.id),
            )
            .where(*_completed(system, level))
            .order_by(sagas.c.entry.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [_run(*row) for row in rows]


def _completed(system: str, level: Level) -> tuple[ColumnElement[bool], ...]:
    return (
        sagas.c.system == system,
        sagas.c.level == level.value,
        sagas.c.state == SagaState.COMPLETED.value,
    )


def _run(saga: str, opened: int, closed: int, switched: int | None) -> Run:
    until = None if switched is None else max(0.0, seconds(switched - opened))
    return Run(saga, seconds(closed), until, max(0.0, seconds(closed - opened)))


def _refuse_other_target(saga: Row[Any], release: Release) -> None:
    """A target that was whole, or has become so, is never replaced."""
    recipe = saga_of(saga).plan.get("recipe")
    if recipe is None or Release.from_json(recipe).id != saga.target:
        raise Conflict(
            f"Saga {saga.id} goes to {saga.target[:12]} already, not to {release.short}.",
            remedy="Plan again.",
        )


def _ordered_before(write: Writing, system: str, key: str) -> Row[Any] | None:
    if not key:
        return None
    row = write.connection.execute(
        select(sagas).where(sagas.c.system == system, sagas.c.order_key == key)
    ).one_or_none()
    if row is not None and row.state == SagaState.OPEN:
        raise already_open(row, write.now)
    return row


def _refuse_given_up(write: Writing, target: str) -> None:
    """It was given up between the planning and now."""
    row = select(given_up.c.release).where(given_up.c.release == target)
    if write.connection.scalar(row) is not None:
        raise PlanChanged(
            f"Release {target[:12]} was given up by `ebbtide gc`.", remedy="Choose another."
        )


def _refuse_second(write: Writing, system: str) -> None:
    row = write.connection.execute(
        select(sagas).where(sagas.c.system == system, sagas.c.state == SagaState.OPEN.value)
    ).one_or_none()
    if row is not None:
        raise already_open(row, write.now)


def _require_source(write: Writing, plan: Plan) -> None:
    row = write.connection.execute(
        select(routes.c.release, routes.c.epoch).where(routes.c.system == plan.system)
    ).one_or_none()
    release, epoch = (row.release, row.epoch) if row is not None else ("", 0)
    if (release, epoch) != (plan.source, plan.epoch):
        raise PlanChanged(
            f"`{plan.system}` is at {named([release])} in epoch {epoch}; the plan starts from"
            f" {named([plan.source])} in epoch {plan.epoch}.",
            remedy="Plan again, and look at the new plan.",
        )


def _insert(write: Writing, plan: Plan, lease: Lease, by: str, reason: str, key: str) -> Saga:
    content = packed(plan.to_json())
    write.connection.execute(
        sagas.insert().values(
            id=lease.saga,
            system=plan.system,
            level=plan.level.value,
            source=plan.source,
            target=plan.target,
            epoch=plan.epoch,
            state=SagaState.OPEN.value,
            plan=content,
            plan_digest=plan.digest,
            ordered_by=by,
            reason=reason,
            order_key=key,
            opened_at=write.now,
            closed_at=None,
            why="",
            remaining="[]",
            holder=lease.holder,
            lease_epoch=lease.epoch,
            lease_until=until(),
            entry=write.next_entry,
        )
    )
    write.append(
        What.SAGA_OPENED,
        system=plan.system,
        who=by,
        saga=lease.saga,
        level=plan.level,
        source=plan.source,
        target=plan.target,
        epoch=plan.epoch,
        plan=text_digest(content),
        plan_digest=plan.digest,
        reason=reason,
        key=key,
        holder=lease.holder,
    )
    return saga_of(write.connection.execute(select(sagas).where(sagas.c.id == lease.saga)).one())
