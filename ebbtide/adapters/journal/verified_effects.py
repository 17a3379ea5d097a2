"""Is the outbox what the audit trail says of it?"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, select

from ebbtide.adapters.journal.audit import What
from ebbtide.adapters.journal.effect_records import digest_of, is_forgotten
from ebbtide.adapters.journal.schema import effect_holds, effects
from ebbtide.core.effects import OVER, State
from ebbtide.core.journal import AuditEntry

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Said:
    """What the entries say of one effect."""

    content: str
    state: str = State.QUEUED
    unsure: bool = False
    saga: str = ""
    release: str = ""
    forgotten: bool = False


@dataclass
class ToldOfEffects:
    """What the entries, heard in their order, say of effects and holds."""

    effects: dict[_Key, _Said] = field(default_factory=dict)
    holds: dict[str, str] = field(default_factory=dict)

    def hear(self, entry: AuditEntry) -> None:
        said, system = entry.detail, entry.system
        match entry.what:
            case What.EFFECT_QUEUED:
                own = {"saga": entry.saga, "release": said["release"]}
                mine = _Said(said["content"], unsure=said["unsure"], **own)
                self.effects[system, said["key"]] = mine
            case What.EFFECT_CLAIMED:
                was = self.effects[system, said["key"]]
                again = was.unsure or was.state == State.SENDING
                self._change(system, said["key"], state=State.SENDING, unsure=again)
            case What.EFFECT_ENDED:
                self._change(system, said["key"], state=said["state"], unsure=said["unsure"])
                if said["undone"]:
                    self._change(system, said["undone"], state=State.UNDONE)
            case What.EFFECTS_SETTLED:
                self._settled(entry)
            case What.EFFECTS_FORGOTTEN:
                self._forgotten(entry)
            case What.EFFECTS_HELD:
                self.holds[system] = entry.saga
            case What.EFFECTS_LET_GO:
                self.holds.pop(system, None)

    def _settled(self, entry: AuditEntry) -> None:
        said, system = entry.detail, entry.system
        for key in said["settled"]:
            self._change(system, key, saga=entry.saga)
        for key in said["cancelled"]:
            self._change(system, key, state=State.CANCELLED)
        for key in said["unsure"]:
            self._change(system, key, unsure=True)
        for undo in said["undos"]:
            own = {"saga": entry.saga, "release": said["release"]}
            self.effects[system, undo["key"]] = _Said(undo["content"], **own)

    def _forgotten(self, entry: AuditEntry) -> None:
        for (system, key), said in list(self.effects.items()):
            mine = system == entry.system and said.release in entry.detail["releases"]
            if mine and said.state in OVER:
                self._change(system, key, forgotten=True)

    def _change(self, system: str, key: str, **values: Any) -> None:
        self.effects[system, key] = replace(self.effects[system, key], **values)


def problems(connection: Connection, told: ToldOfEffects) -> Iterator[str]:
    """What differs, in sentences that name the record."""
    rows = {}
    for row in connection.execute(select(effects)):
        how = (row.state, bool(row.unsure), row.saga, row.release, is_forgotten(row))
        rows[row.system, row.key] = _Said(digest_of(row), *how)
    for system, key in sorted(rows.keys() | told.effects.keys()):
        if rows.get((system, key)) != told.effects.get((system, key)):
            yield f"Effect {key} of `{system}` is not as it was written."
    holds = {row.system: row.saga for row in connection.execute(select(effect_holds))}
    for system in sorted(holds.keys() | told.holds.keys()):
        if holds.get(system) != told.holds.get(system):
            yield f"Whether effects of `{system}` are held was changed by hand."
