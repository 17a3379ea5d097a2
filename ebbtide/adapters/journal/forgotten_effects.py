"""Payloads are deleted with the release that set them off; each one's digest stays."""

from typing import Any

from sqlalchemy import Select, select

from ebbtide.adapters.journal.audit import What, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.effect_records import is_forgotten, mark_of, one
from ebbtide.adapters.journal.records import plain
from ebbtide.adapters.journal.schema import effects, given_up
from ebbtide.core.effects import OVER


class ForgottenEffects:
    """The part of `ebbtide.core.effects.Outbox` that deletes what is about somebody."""

    _database: Database

    def forget_effects(self, system: str, *, by: str) -> int:
        """Delete what effects of given up releases sent and were answered, once they are over.

        Returns how many. Idempotent: what is still waiting is forgotten the next time.
        """
        with writing(self._database) as write:
            rows = write.connection.execute(_left(system)).all()
            rows = [row for row in rows if not is_forgotten(row)]
            for row in rows:
                values = {"payload": mark_of(row), "undo": "", "answer": ""}
                mine = one(system, row.key)
                write.connection.execute(effects.update().where(mine).values(**values))
            if rows:
                releases = sorted({row.release for row in rows})
                write.append(
                    What.EFFECTS_FORGOTTEN,
                    system=system,
                    who=plain(by),
                    releases=releases,
                    effects=len(rows),
                )
        return len(rows)


def _left(system: str) -> Select[Any]:
    gone = select(given_up.c.release).where(given_up.c.system == system)
    over = effects.c.state.in_([state.value for state in OVER])
    return select(effects).where(effects.c.system == system, effects.c.release.in_(gone), over)
