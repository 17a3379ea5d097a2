"""The outbox in the journal: effects are queued, claimed by one dispatcher, and ended."""

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, exists, or_, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.effect_records import (
    content_digest,
    content_of,
    digest_of,
    effect_of,
    is_forgotten,
    one,
)
from ebbtide.adapters.journal.records import plain
from ebbtide.adapters.journal.releases import require_release
from ebbtide.adapters.journal.schema import effect_holds, effects, micros, quarantine
from ebbtide.core.effects import Effect, Ended, Sent, State, Wish
from ebbtide.core.errors import Conflict, Quarantined, Refused, Unknown

_MICROS = 1_000_000
_OPEN = (State.QUEUED.value, State.SENDING.value)
_SAID = 500
"""Characters of what went wrong that are kept."""
_NO_CLAIM: Mapping[str, Any] = {"claim": "", "claim_until": None}


class Effects:
    """The part of `ebbtide.core.effects.Outbox` that queues and sends."""

    _database: Database

    def queue_effect(self, system: str, release: str, wish: Wish) -> Effect:
        """Write the effect down, to be sent. The same key again is the effect that is there.

        Raises `Conflict` where that is another one, `Quarantined` for a release
        that was rolled back, `Unknown` for one that the system does not have. A
        cancelled effect that never left may be queued anew by another release.
        """
        content = content_of(wish)
        with writing(self._database) as write:
            row = write.connection.execute(select(effects).where(one(system, wish.key))).first()
            if row is not None and not _may_be_replaced(row, release):
                _refuse_other(row, content)
                return effect_of(row)
            require_release(write.connection, release, system)
            _refuse_quarantined(write, system, release)
            if row is not None:
                write.connection.execute(effects.delete().where(one(system, wish.key)))
            _insert(write, system, wish.key, release, content)
            return _now(write, system, wish.key)

    def effect(self, system: str, key: str) -> Effect | None:
        with self._database.read() as connection:
            row = connection.execute(select(effects).where(one(system, key))).first()
        return effect_of(row) if row is not None else None

    def effects(
        self, system: str, *, state: str = "", saga: str = "", release: str = ""
    ) -> list[Effect]:
        """In the order in which they were queued; `saga`: those that it settled or queued."""
        wanted = {"state": state, "saga": saga, "release": release}
        query = select(effects).where(effects.c.system == system)
        query = query.where(*(effects.c[name] == value for name, value in wanted.items() if value))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(effects.c.entry, effects.c.place)).all()
        return [effect_of(row) for row in rows]

    def claim_effect(self, system: str, lasts: Mapping[str, float]) -> Effect | None:
        """The next effect that is due, for this caller alone; None where there is none.

        `lasts`: seconds until others may take it over, by kind, `""` for other
        kinds. Nothing while dispatch is held, nothing of a quarantined release.
        """
        with self._database.read() as connection:  # a look takes no lock from a saga
            if connection.execute(_next(system)).first() is None:
                return None
        with writing(self._database) as write:
            row = write.connection.execute(_next(system)).first()
            if row is None:
                return None
            for_ = lasts.get(row.kind, lasts[""])
            write.connection.execute(
                effects.update()
                .where(one(system, row.key))
                .values(
                    state=State.SENDING.value,
                    attempts=row.attempts + 1,
                    # Its last dispatcher died, before or after it had sent it.
                    unsure=row.unsure or row.state == State.SENDING.value,
                    claim=secrets.token_hex(8),
                    claimed_at=write.now,
                    claim_until=write.now + round(for_ * _MICROS),
                )
            )
            _tell(write, What.EFFECT_CLAIMED, row, attempt=row.attempts + 1)
            return _now(write, system, row.key)

    def end_claim(self, claimed: Effect, sent: Sent, *, wait: float | None) -> bool:
        """How the attempt ended; `wait`: seconds until the next, None: there is none.

        False, and nothing written, where it is this caller's claim no more.
        """
        mine = and_(one(claimed.system, claimed.key), effects.c.claim == claimed.claim)
        with writing(self._database) as write:
            row = write.connection.execute(select(effects).where(mine)).first()
            if row is None or row.state != State.SENDING.value:
                return False
            values = _ended(write, row, sent, wait)
            write.connection.execute(effects.update().where(mine).values(**values, **_NO_CLAIM))
            undone = sent.ended is Ended.TAKEN and row.undoes
            if undone:
                write.connection.execute(
                    effects.update()
                    .where(one(row.system, row.undoes))
                    .values(state=State.UNDONE.value)
                )
            told = {"state": values["state"], "unsure": values["unsure"]}
            _tell(write, What.EFFECT_ENDED, row, **told, undone=row.undoes if undone else "")
        return True

    def requeue_effect(self, system: str, key: str, *, by: str, reason: str) -> Effect:
        """A person wants a failed or cancelled effect sent after all.

        Raises `Unknown`, `Refused` where it is neither, `Quarantined`.
        """
        with writing(self._database) as write:
            row = write.connection.execute(select(effects).where(one(system, key))).first()
            if row is None:
                raise Unknown(
                    f"`{system}` has no effect {key}.",
                    remedy=f"`ebbtide effects {system}` lists what there is.",
                )
            _refuse_unless_ended(write, row)
            # An undo stays its saga's; what is sent after all is to be settled anew.
            saga = row.saga if row.undoes else ""
            write.connection.execute(
                effects.update()
                .where(one(system, key))
                .values(state=State.QUEUED.value, attempts=0, due_at=write.now, saga=saga)
            )
            told = {"content": digest_of(row), "unsure": bool(row.unsure), "reason": reason}
            _tell(write, What.EFFECT_QUEUED, row, who=by, saga=saga, **told)
            return _now(write, system, key)


def insert_undo(
    write: Writing, undoes: Effect, wish: Wish, *, saga: str, place: int
) -> dict[str, Any]:
    """Queue what undoes an effect; what its saga's entry has to tell of it."""
    content = content_of(wish)
    values = _values(write, undoes.system, wish.key, undoes.release, content)
    own = {"undoes": undoes.key, "saga": saga, "place": place}
    write.connection.execute(effects.insert().values(**{**values, **own}))
    return {"key": wish.key, "content": content_digest(undoes.release, content, undoes.key)}


def _next(system: str) -> Select[Any]:
    """The first that may be sent now. An undo waits for those of its saga before it."""
    before = effects.alias()
    earlier_undo = exists().where(
        before.c.system == system,
        before.c.undoes != "",
        before.c.saga == effects.c.saga,
        before.c.state.in_(_OPEN),
        or_(
            before.c.entry < effects.c.entry,
            and_(before.c.entry == effects.c.entry, before.c.place < effects.c.place),
        ),
    )
    denied = select(quarantine.c.digest).where(quarantine.c.system == system)
    held = exists().where(effect_holds.c.system == system)
    own = and_(effects.c.undoes == "", effects.c.release.not_in(denied))
    undo = and_(effects.c.undoes != "", ~earlier_undo)
    query = select(effects).where(effects.c.system == system, _due(), ~held, or_(own, undo))
    # First those of which every moment counts: a person may be waiting for them.
    first = case((effects.c.undoes != "", 0), else_=1)
    return query.order_by(first, effects.c.entry, effects.c.place).limit(1)


def _due() -> ColumnElement[bool]:
    queued = and_(effects.c.state == State.QUEUED.value, effects.c.due_at <= micros())
    left = and_(effects.c.state == State.SENDING.value, effects.c.claim_until < micros())
    return or_(queued, left)


def _may_be_replaced(row: Row[Any], release: str) -> bool:
    cancelled = row.state == State.CANCELLED.value and not row.unsure
    return bool(cancelled and row.release != release and not row.undoes)


def _refuse_other(row: Row[Any], content: Mapping[str, str]) -> None:
    if content_digest(row.release, dict(content), row.undoes) != digest_of(row):
        raise Conflict(
            f"Effect {row.key} of `{row.system}` was queued before, and was another one.",
            remedy="A key stands for one effect: choose another.",
        )


def _refuse_quarantined(write: Writing, system: str, release: str) -> None:
    denied = select(quarantine).where(quarantine.c.system == system, quarantine.c.digest == release)
    if write.connection.execute(denied).first() is not None:
        raise Quarantined(
            f"Release {release[:12]} was rolled back: it sets nothing off any more.",
            remedy="Queue it with a release that is not taken back.",
        )


def _refuse_unless_ended(write: Writing, row: Row[Any]) -> None:
    if row.state not in (State.FAILED.value, State.CANCELLED.value):
        raise Refused(f"Effect {row.key} is `{row.state}`: only failed and cancelled ones are.")
    if is_forgotten(row):
        raise Refused(
            f"What effect {row.key} sends was deleted with release {row.release[:12]}.",
            remedy="Queue it anew under another key.",
        )
    if row.undoes:
        return
    _refuse_quarantined(write, row.system, row.release)
    query = select(effects.c.key).where(effects.c.system == row.system, effects.c.undoes == row.key)
    if (undo := write.connection.scalar(query)) is not None:
        raise Refused(
            f"Effect {row.key} may have arrived, and {undo} undoes it.",
            remedy="Queue it anew under another key.",
        )


def _insert(write: Writing, system: str, key: str, release: str, content: dict[str, str]) -> None:
    write.connection.execute(
        effects.insert().values(**_values(write, system, key, release, content))
    )
    write.append(
        What.EFFECT_QUEUED,
        system=system,
        who=f"release {release[:12]}",
        key=key,
        kind=content["kind"],
        release=release,
        unsure=False,
        content=content_digest(release, content),
    )


def _values(
    write: Writing, system: str, key: str, release: str, content: dict[str, str]
) -> dict[str, Any]:
    return {
        "system": system,
        "key": key,
        "release": release,
        **content,
        "undoes": "",
        "saga": "",
        "state": State.QUEUED.value,
        "attempts": 0,
        "unsure": False,
        "queued_at": write.now,
        "due_at": write.now,
        "sent_at": None,
        "answer": "",
        "why": "",
        "claimed_at": None,
        **_NO_CLAIM,
        "entry": write.next_entry,
        "place": 0,
    }


def _ended(write: Writing, row: Row[Any], sent: Sent, wait: float | None) -> dict[str, Any]:
    if sent.ended is Ended.TAKEN:
        ended = {"state": State.SENT.value, "sent_at": write.now, "why": ""}
        return {**ended, "answer": plain(sent.answer), "unsure": False}
    again = {"state": State.QUEUED.value, "due_at": write.now + round((wait or 0) * _MICROS)}
    return {
        **(again if wait is not None else {"state": State.FAILED.value}),
        "why": plain(sent.said)[:_SAID],
        "answer": plain(sent.answer),
        "unsure": bool(row.unsure or sent.unsure),
    }


def _tell(write: Writing, what: What, row: Row[Any], **detail: Any) -> None:
    own = {"who": "", "saga": row.saga, "key": row.key, "kind": row.kind, "release": row.release}
    write.append(what, system=row.system, **{**own, **detail})


def _now(write: Writing, system: str, key: str) -> Effect:
    return effect_of(write.connection.execute(select(effects).where(one(system, key))).one())
