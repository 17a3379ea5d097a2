"""Is the ledger of outputs what the audit trail says of it?"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, select

from ebbtide.adapters.journal.audit import What
from ebbtide.adapters.journal.records import seconds, text_digest
from ebbtide.adapters.journal.schema import (
    output_parts,
    output_reads,
    output_recalls,
    output_runs,
)
from ebbtide.core.journal import AuditEntry

_Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Said:
    """What the entries say of one part."""

    release: str
    rows: int | None = None
    version: int | None = None
    replaced_by: str = ""
    recall: str = ""
    marked: bool = False


@dataclass
class ToldOfOutputs:
    """What the entries, heard in their order, say of runs, parts, recalls and reads."""

    runs: dict[tuple[str, str], tuple[str, Any]] = field(default_factory=dict)
    parts: dict[_Key, _Said] = field(default_factory=dict)
    recalls: dict[str, Any] = field(default_factory=dict)
    reads: dict[_Key, float] = field(default_factory=dict)

    def hear(self, entry: AuditEntry) -> None:
        said, system = entry.detail, entry.system
        match entry.what:
            case What.OUTPUT_RUN_BEGUN:
                self.runs[system, said["run"]] = (said["release"], said["models"])
            case What.OUTPUT_BEGUN:
                key = (system, said["output"], said["partition"], said["run"])
                self.parts[key] = _Said(said["release"])
            case What.OUTPUT_WRITTEN:
                self._written(system, said)
            case What.OUTPUTS_RECALLED:
                self.recalls[said["recall"]] = said["blame"]
                for part in said["parts"]:
                    self._change((system, *part), recall=said["recall"])
            case What.OUTPUTS_MARKED:
                for part in said["parts"]:
                    self._change((system, *part), marked=True)
            case What.OUTPUT_READ:
                self.reads[system, said["output"], entry.who, said["content"]] = entry.at

    def _written(self, system: str, said: Any) -> None:
        names = ("rows", "version", "replaced_by", "recall")
        partition = (system, said["output"], said["partition"])
        self._change((*partition, said["run"]), **{name: said[name] for name in names})
        for other in said["replaced"]:
            self._change((*partition, other), replaced_by=said["run"])

    def _change(self, key: _Key, **values: Any) -> None:
        self.parts[key] = replace(self.parts[key], **values)


def problems(connection: Connection, told: ToldOfOutputs) -> Iterator[str]:
    """What differs, in sentences that name the record."""
    yield from _runs(connection, told)
    yield from _parts(connection, told)
    recalls = {row.id: json.loads(row.blame) for row in connection.execute(select(output_recalls))}
    for recall in sorted(recalls.keys() | told.recalls.keys()):
        if recalls.get(recall) != told.recalls.get(recall):
            yield f"What recall {recall} takes back is not what was written."
    yield from _reads(connection, told)


def _runs(connection: Connection, told: ToldOfOutputs) -> Iterator[str]:
    rows = {
        (row.system, row.id): (row.release, json.loads(row.models))
        for row in connection.execute(select(output_runs))
    }
    for system, run in sorted(rows.keys() | told.runs.keys()):
        if rows.get((system, run)) != told.runs.get((system, run)):
            yield f"The release of run {run} of `{system}` is not what was written."


def _parts(connection: Connection, told: ToldOfOutputs) -> Iterator[str]:
    rows = {
        (row.system, row.output, row.partition, row.run): _Said(
            row.release, row.rows, row.version, row.replaced_by, row.recall, bool(row.marked)
        )
        for row in connection.execute(select(output_parts))
    }
    for key in sorted(rows.keys() | told.parts.keys()):
        if rows.get(key) != told.parts.get(key):
            system, output, partition, run = key
            yield (
                f"Output `{output}` of `{system}`, {partition}, of run {run} is not as it was "
                "written."
            )


def _reads(connection: Connection, told: ToldOfOutputs) -> Iterator[str]:
    found = {}
    for row in connection.execute(select(output_reads)):
        found[row.system, row.output, row.consumer, row.digest] = seconds(row.last_at)
        if text_digest(row.content) != row.digest:
            yield f"What {row.consumer} read of output `{row.output}` was changed by hand."
    for key in sorted(found.keys() | told.reads.keys()):
        if found.get(key) != told.reads.get(key):
            yield f"When {key[2]} read output `{key[1]}` is not what was written."
