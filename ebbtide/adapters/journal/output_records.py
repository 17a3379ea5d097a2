"""How runs, parts, recalls and reads of outputs lie in the tables, and come back."""

import json
from typing import Any

from sqlalchemy import Row

from ebbtide.adapters.journal.faults import reading
from ebbtide.adapters.journal.records import maybe_seconds, seconds
from ebbtide.core.outputs import Blame, OutputRun, Part, Read, Recall


def run_of(row: Row[Any]) -> OutputRun:
    with reading(f"Run {row.id} of `{row.system}`"):
        models = json.loads(row.models)
        return OutputRun(row.system, row.id, row.release, models, seconds(row.began_at))


def part_of(row: Row[Any]) -> Part:
    with reading(f"Output `{row.output}`, {row.partition}, of run {row.run}"):
        return Part(
            system=row.system,
            output=row.output,
            partition=row.partition,
            run=row.run,
            release=row.release,
            models=json.loads(row.models),
            begun_at=seconds(row.begun_at),
            written_at=maybe_seconds(row.written_at),
            rows=row.rows,
            version=row.version,
            replaced_by=row.replaced_by,
            recall=row.recall,
            marked=bool(row.marked),
        )


def recall_of(row: Row[Any]) -> Recall:
    with reading(f"Recall {row.id}"):
        blame = Blame.from_json(json.loads(row.blame))
        at = seconds(row.at)
        return Recall(row.id, row.system, blame, row.by, row.reason, row.saga, at)


def read_of(row: Row[Any]) -> Read:
    with reading(f"What {row.consumer} read of output `{row.output}`"):
        parts = frozenset((partition, run) for partition, run in json.loads(row.content))
        return Read(row.output, row.consumer, parts, seconds(row.first_at), seconds(row.last_at))
