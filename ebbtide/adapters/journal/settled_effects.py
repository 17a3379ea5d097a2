"""Effects and sagas in the journal: dispatch is held, and what was bad is settled."""

from typing import Any

from sqlalchemy import ColumnElement, Row, func, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.effect_records import effect_of, one
from ebbtide.adapters.journal.effects import insert_undo
from ebbtide.adapters.journal.records import plain, seconds
from ebbtide.adapters.journal.schema import effect_holds, effects
from ebbtide.core.effects import UNDO, Effect, EffectClass, Hold, State, Undo, Wish
from ebbtide.core.errors import Conflict
from ebbtide.core.lease import Lease
from ebbtide.core.undoing import filled

_MICROS = 1_000_000


class SettledEffects:
    """The part of `ebbtide.core.effects.Outbox` that sagas write. All may raise `Fenced`."""

    _database: Database

    def hold_effects(self, lease: Lease) -> None:
        """Let nothing be sent from now on. Idempotent; an ended saga's hold becomes this one's."""
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            row = write.connection.execute(_hold(lease.system)).first()
            if row is not None and row.saga == lease.saga:
                return
            write.connection.execute(
                effect_holds.delete().where(effect_holds.c.system == lease.system)
            )
            write.connection.execute(
                effect_holds.insert().values(system=lease.system, saga=lease.saga, since=write.now)
            )
            was = row.saga if row is not None else ""
            _tell(write, What.EFFECTS_HELD, lease, by, was=was)

    def let_effects_go(self, lease: Lease) -> None:
        """Idempotent; another saga's hold stays."""
        mine = (effect_holds.c.system == lease.system) & (effect_holds.c.saga == lease.saga)
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            if write.connection.execute(effect_holds.delete().where(mine)).rowcount:
                _tell(write, What.EFFECTS_LET_GO, lease, by)

    def effects_held(self, system: str) -> Hold | None:
        with self._database.read() as connection:
            row = connection.execute(_hold(system)).first()
        return Hold(row.saga, seconds(row.since)) if row is not None else None

    def cancel_effects(self, lease: Lease, release: str, *, since: float, why: str) -> None:
        """Cancel what the release queued since then and was not sent. Idempotent."""
        query = select(effects).where(
            _of(lease.system, release),
            effects.c.state == State.QUEUED.value,
            effects.c.queued_at >= round(since * _MICROS),
        )
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            rows = write.connection.execute(query.order_by(effects.c.entry)).all()
            for row in rows:
                _cancel(write, row, lease, why)
            if rows:
                _tell(write, What.EFFECTS_SETTLED, lease, by, **_told(release, rows, []))

    def settle_effects(self, lease: Lease, release: str, why: str) -> None:
        """Cancel what the release queued, and queue the undo of what may have arrived.

        Undos are queued in the reverse order of sending. Idempotent. Raises
        `Conflict` while something of it is being sent.
        """
        query = select(effects).where(_of(lease.system, release), effects.c.saga == "")
        # The order in which they left; of one moment, that in which they were queued.
        left = func.coalesce(effects.c.sent_at, effects.c.claimed_at, effects.c.queued_at)
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            rows = write.connection.execute(
                query.order_by(left.desc(), effects.c.entry.desc())
            ).all()
            _refuse_under_way(write, rows)
            for row in rows:
                _settle(write, row, lease, why)
            undos = _queue_undos(write, rows, lease)
            if rows:
                told = _told(release, rows, undos)
                _tell(write, What.EFFECTS_SETTLED, lease, by, **told)


def _hold(system: str) -> Any:
    return select(effect_holds).where(effect_holds.c.system == system)


def _of(system: str, release: str) -> ColumnElement[bool]:
    """What the release itself set off."""
    return (effects.c.system == system) & (effects.c.release == release) & (effects.c.undoes == "")


def _refuse_under_way(write: Writing, rows: Any) -> None:
    busy = [
        row.key for row in rows if row.state == State.SENDING.value and row.claim_until >= write.now
    ]
    if busy:
        raise Conflict(f"Still being sent: {', '.join(busy[:5])}.", remedy="Try again shortly.")


def _settle(write: Writing, row: Row[Any], lease: Lease, why: str) -> None:
    if row.state in (State.QUEUED.value, State.SENDING.value):
        _cancel(write, row, lease, why)
    else:
        _change(write, row, saga=lease.saga)


def _cancel(write: Writing, row: Row[Any], lease: Lease, why: str) -> None:
    _change(
        write,
        row,
        state=State.CANCELLED.value,
        saga=lease.saga,
        why=plain(why),
        # Its dispatcher died: it may have been sent by then.
        unsure=row.unsure or row.state == State.SENDING.value,
        claim="",
        claim_until=None,
    )


def _queue_undos(write: Writing, rows: Any, lease: Lease) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for row in rows:
        now = effect_of(
            write.connection.execute(select(effects).where(one(row.system, row.key))).one()
        )
        if now.undo is None or not now.may_have_arrived:
            continue
        wish = _undoing(write, row, now, now.undo)
        if wish is not None:
            told.append(insert_undo(write, now, wish, saga=lease.saga, place=len(told)))
    return told


def _undoing(write: Writing, row: Row[Any], effect: Effect, template: Undo) -> Wish | None:
    try:
        payload = filled(effect, template)
    except LookupError as fault:
        _change(write, row, why=plain(f"Its undo could not be made: {fault.args[0]}."))
        return None
    return Wish(template.kind, EffectClass.IRREVERSIBLE, payload, UNDO + effect.key)


def _change(write: Writing, row: Row[Any], **values: Any) -> None:
    write.connection.execute(effects.update().where(one(row.system, row.key)).values(**values))


def _told(release: str, rows: Any, undos: list[dict[str, Any]]) -> dict[str, Any]:
    cancelled = [row for row in rows if row.state in (State.QUEUED.value, State.SENDING.value)]
    return {
        "release": release,
        "settled": [row.key for row in rows],
        "cancelled": [row.key for row in cancelled],
        "unsure": [row.key for row in cancelled if row.state == State.SENDING.value],
        "undos": undos,
    }


def _tell(write: Writing, what: What, lease: Lease, by: str, **detail: Any) -> None:
    write.append(what, system=lease.system, who=by, saga=lease.saga, **detail)
