"""Does the journal still say what was written? Every finding names its record.

Two questions: is the audit trail whole, and are the records what the trail
says of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, select

from ebbtide.adapters.journal.audit import What, digest_of
from ebbtide.adapters.journal.records import entry_of, release_of, text_digest
from ebbtide.adapters.journal.schema import (
    NOTHING_BEFORE,
    audit,
    audit_head,
    fences,
    given_up,
    quarantine,
    releases,
    routes,
    sagas,
    snapshots,
    steps,
    tenures,
)
from ebbtide.adapters.journal.verified_effects import ToldOfEffects
from ebbtide.adapters.journal.verified_effects import problems as of_effects
from ebbtide.adapters.journal.verified_outputs import ToldOfOutputs
from ebbtide.adapters.journal.verified_outputs import problems as of_outputs
from ebbtide.core.errors import Tampered
from ebbtide.core.journal import AuditEntry
from ebbtide.core.saga import SagaState


def problems(connection: Connection) -> list[str]:
    """What is wrong, in sentences; empty: nothing. To be called in one read transaction."""
    told = _Told()
    found = [*_damage(connection), *_trail(connection, told)]
    checks = (_releases, _snapshots, _sagas, _steps, _routes, _tenures, _quarantine, _fences)
    for check in (*checks, _given_up):
        found += check(connection, told)
    found += of_outputs(connection, told.outputs)
    found += of_effects(connection, told.effects)
    return found


@dataclass
class _Told:
    """What the entries, read in their order, say of the records."""

    evidence: dict[str, str] = field(default_factory=dict)
    golden: dict[str, str] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    memories: dict[tuple[str, int], str] = field(default_factory=dict)
    routes: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    tenures: dict[tuple[str, int], str] = field(default_factory=dict)
    proved: set[tuple[str, int]] = field(default_factory=set)
    denied: set[tuple[str, str]] = field(default_factory=set)
    fences: dict[tuple[str, str], str] = field(default_factory=dict)
    given_up: set[tuple[str, str]] = field(default_factory=set)
    outputs: ToldOfOutputs = field(default_factory=ToldOfOutputs)
    effects: ToldOfEffects = field(default_factory=ToldOfEffects)

    def hear(self, entry: AuditEntry) -> None:
        said = entry.detail
        self.outputs.hear(entry)
        self.effects.hear(entry)
        match entry.what:
            case What.RELEASE_RECORDED | What.EVIDENCE_ADDED:
                self.evidence[said["release"]] = said["evidence"]
                self.golden[said["release"]] = said["golden"]
            case What.SAGA_OPENED:
                self.plans[entry.saga] = said["plan"]
                self.states[entry.saga] = SagaState.OPEN
            case What.SAGA_TAKEN_OVER:
                self.states[entry.saga] = SagaState.OPEN
            case What.SAGA_CLOSED:
                self.states[entry.saga] = said["state"]
            case What.STEP_INTENDED:
                self.memories[entry.saga, said["step"]] = said["remembered"]
            case What.ROUTE_SWITCHED | What.ROUTE_RETURNED:
                self.routes[entry.system] = (
                    said["release"],
                    said["epoch"],
                    said["token"],
                )
                if said["release"]:
                    self.tenures[entry.system, said["epoch"]] = said["release"]
            case What.RELEASE_PROVED:
                self.proved.add((entry.system, said["epoch"]))
            case _:
                self._hear_of_denial(entry)

    def _hear_of_denial(self, entry: AuditEntry) -> None:
        said = entry.detail
        match entry.what:
            case What.QUARANTINED:
                self.denied |= {(entry.system, digest) for digest in said["digests"]}
            case What.QUARANTINE_LIFTED:
                self.denied -= {(entry.system, digest) for digest in said["digests"]}
            case What.FENCE_RAISED:
                self.fences |= {(entry.system, name): entry.saga for name in said["tables"]}
            case What.FENCE_LIFTED:
                for name in said["tables"]:
                    self.fences.pop((entry.system, name), None)
            case What.GIVEN_UP:
                self.given_up |= {(entry.system, release) for release in said["releases"]}
            case What.KEPT_AGAIN:
                self.given_up -= {(entry.system, said["release"])}


def _damage(connection: Connection) -> Iterator[str]:
    """SQLite's own look at its file; PostgreSQL has no such thing within SQL."""
    if connection.dialect.name == "sqlite":
        for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
            if line != "ok":
                yield f"The journal's file is damaged: {line}."


def _trail(connection: Connection, told: _Told) -> Iterator[str]:
    """Walk the chain, and let `told` hear every entry."""
    last, previous = 0, NOTHING_BEFORE
    for row in connection.execute(select(audit).order_by(audit.c.n)):
        if row.n != last + 1:
            yield f"{_entries(last + 1, row.n - 1)} missing."
        elif row.previous != previous:
            yield f"Audit entry {row.n} does not follow entry {last}."
        try:
            entry = entry_of(row)
            if digest_of(entry) != entry.digest:
                yield f"{_name(entry)} was changed after it was written."
            told.hear(entry)
        except (Tampered, KeyError, TypeError, ValueError):
            yield f"Audit entry {row.n} cannot be read."
        last, previous = row.n, row.digest
    yield from _head(connection, last, previous)


def _head(connection: Connection, last: int, digest: str) -> Iterator[str]:
    head = connection.execute(select(audit_head)).one_or_none()
    if head is None:
        yield "The head of the audit trail is missing."
    elif head.entries > last:
        yield f"{_entries(last + 1, head.entries)} missing: the trail was cut at its end."
    elif head.entries < last:
        yield f"{_entries(head.entries + 1, last)} not counted by the head of the audit trail."
    elif head.digest != digest:
        yield f"The head of the audit trail is not the digest of entry {last}: it was written anew."


def _entries(first: int, last: int) -> str:
    return f"Audit entry {first} is" if first == last else f"Audit entries {first} to {last} are"


def _name(entry: AuditEntry) -> str:
    where = f", saga {entry.saga}" if entry.saga else f" of `{entry.system}`"
    return f"Audit entry {entry.n} ({entry.what}{where})"


def _rows(connection: Connection, table: Table) -> list[Any]:
    return list(connection.execute(select(table).order_by(*table.primary_key.columns)))


def _releases(connection: Connection, told: _Told) -> Iterator[str]:
    rows = {row.id: row for row in _rows(connection, releases)}
    for release, row in rows.items():
        try:
            release_of(row)
        except Tampered as fault:
            yield fault.message
        if release not in told.evidence:
            yield f"Release {release[:12]} is in no audit entry: it was not recorded by ebbtide."
        elif text_digest(row.evidence) != told.evidence[release]:
            yield f"The evidence of release {release[:12]} was changed after it was written."
    for release in told.evidence.keys() - rows.keys():
        yield f"Release {release[:12]} was deleted."


def _snapshots(connection: Connection, told: _Told) -> Iterator[str]:
    digests = {row.release: text_digest(row.content) for row in _rows(connection, snapshots)}
    for release in sorted(told.golden.keys() | digests.keys()):
        if told.golden.get(release, "") != digests.get(release, ""):
            yield f"The behavioural snapshot of release {release[:12]} is not what was recorded."


def _sagas(connection: Connection, told: _Told) -> Iterator[str]:
    rows = {row.id: row for row in _rows(connection, sagas)}
    for saga, row in rows.items():
        if saga not in told.plans:
            yield f"Saga {saga} is in no audit entry: it was not opened by ebbtide."
            continue
        if text_digest(row.plan) != told.plans[saga]:
            yield f"The plan of saga {saga} was changed after it was written."
        if row.state != told.states[saga]:
            yield f"Saga {saga} is `{row.state}`; the audit trail says `{told.states[saga]}`."
    for saga in sorted(told.plans.keys() - rows.keys()):
        yield f"Saga {saga} was deleted."


def _steps(connection: Connection, told: _Told) -> Iterator[str]:
    rows = {(row.saga, row.n): text_digest(row.remembered) for row in _rows(connection, steps)}
    for saga, n in sorted(told.memories.keys() | rows.keys()):
        if told.memories.get((saga, n)) != rows.get((saga, n)):
            yield f"What step {n} of saga {saga} remembers is not what was written."


def _routes(connection: Connection, told: _Told) -> Iterator[str]:
    shown = {row.system: (row.release, row.epoch, row.token) for row in _rows(connection, routes)}
    unset = ("", 0, "")
    for system in sorted(told.routes.keys() | shown.keys()):
        if told.routes.get(system, unset) != shown.get(system, unset):
            yield f"The route of `{system}` was not moved there by a saga."


def _tenures(connection: Connection, told: _Told) -> Iterator[str]:
    rows = {(row.system, row.epoch): row for row in _rows(connection, tenures)}
    for system, epoch in sorted(told.tenures.keys() | rows.keys()):
        row = rows.get((system, epoch))
        if row is None or row.release != told.tenures.get((system, epoch)):
            yield f"Who served `{system}` in epoch {epoch} is not what was written."
        elif row.proved != ((system, epoch) in told.proved):
            yield f"Whether epoch {epoch} of `{system}` was proved is not what was written."


def _quarantine(connection: Connection, told: _Told) -> Iterator[str]:
    rows = {(row.system, row.digest) for row in _rows(connection, quarantine)}
    for system, digest in sorted(told.denied ^ rows):
        yield f"The quarantine of {digest[:12]} in `{system}` was changed by hand."


def _fences(connection: Connection, told: _Told) -> Iterator[str]:
    rows = {(row.system, row.name): row.saga for row in _rows(connection, fences)}
    for system, name in sorted(told.fences.keys() | rows.keys()):
        if told.fences.get((system, name)) != rows.get((system, name)):
            yield f"The fence of table `{name}` in `{system}` was changed by hand."


def _given_up(connection: Connection, told: _Told) -> Iterator[str]:
    rows = {(row.system, row.release) for row in _rows(connection, given_up)}
    for system, release in sorted(told.given_up ^ rows):
        yield f"Whether release {release[:12]} of `{system}` was given up was changed by hand."
