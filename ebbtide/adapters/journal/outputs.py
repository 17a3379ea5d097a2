"""The ledger of batch outputs in the journal: runs, parts, and what consumers read."""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.output_records import part_of, read_of, recall_of, run_of
from ebbtide.adapters.journal.records import packed, plain, release_of, text_digest
from ebbtide.adapters.journal.releases import require_release
from ebbtide.adapters.journal.schema import (
    output_parts,
    output_reads,
    output_recalls,
    output_runs,
    quarantine,
    releases,
)
from ebbtide.core.errors import Conflict, Quarantined, Unknown
from ebbtide.core.outputs import OutputRun, Part, Read
from ebbtide.core.quarantine import denying
from ebbtide.core.release import Release

_NEW_RUN = "Run the job again as a new run, with a release that is not taken back."


class Outputs:
    """The part of `ebbtide.core.outputs.Ledger` that writes and reads go through."""

    _database: Database

    def begin_run(self, system: str, run: str, release: str) -> OutputRun:
        """Bind a run to a release; the binding that is there, where it was bound before.

        Raises `Conflict` where it is bound to another release, `Quarantined`
        where the release, a content of it, or the run itself was taken back
        since, `Unknown` for a release that the system does not have.
        """
        with writing(self._database) as write:
            row = write.connection.execute(select(output_runs).where(_run(system, run))).first()
            found = run_of(row) if row is not None else _bind(write, system, run, release)
            if found.release != release:
                raise Conflict(
                    f"Run {run} of `{system}` scores with release {found.release[:12]}, "
                    f"not with {release[:12]}.",
                    remedy="A run has one release: choose a new run id.",
                )
            _refuse_taken_back(write, found)
        return found

    def output_run(self, system: str, run: str) -> OutputRun | None:
        with self._database.read() as connection:
            row = connection.execute(select(output_runs).where(_run(system, run))).first()
        return run_of(row) if row is not None else None

    def begin_part(self, run: OutputRun, output: str, partition: str) -> Part:
        """The run is about to replace the partition. Idempotent.

        Raises `Quarantined` as `begin_run`, and where this very part was recalled.
        """
        mine = _part(run.system, output, partition, run.id)
        with writing(self._database) as write:
            row = write.connection.execute(select(output_parts).where(mine)).first()
            if row is not None and row.recall:
                raise Quarantined(
                    f"Output `{output}`, {partition}, of run {run.id} was recalled.",
                    remedy=_NEW_RUN,
                )
            if row is not None and row.written_at is not None:
                return part_of(row)
            _refuse_taken_back(write, run)
            if row is None:
                _insert(write, run, output, partition)
            return part_of(write.connection.execute(select(output_parts).where(mine)).one())

    def finish_part(
        self, begun: Part, *, rows: int | None, version: int, replaced_by: str = ""
    ) -> Part:
        """The part was read back from the table, at a version. Idempotent.

        `replaced_by`: the run whose rows stood there by then instead. What was
        recalled meanwhile stays so: look at the `state` that is returned.
        """
        mine = _part(begun.system, begun.output, begun.partition, begun.run)
        with writing(self._database) as write:
            row = write.connection.execute(select(output_parts).where(mine)).first()
            if row is None:
                raise Unknown(f"Output `{begun.output}`, {begun.partition}, was never begun.")
            if row.written_at is not None:
                return part_of(row)
            by, replaced = _order(write, begun, version, replaced_by)
            _finish(write, part_of(row), rows, version, by, replaced)
            return part_of(write.connection.execute(select(output_parts).where(mine)).one())

    def part(self, system: str, output: str, partition: str, run: str) -> Part | None:
        query = select(output_parts).where(_part(system, output, partition, run))
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return part_of(row) if row is not None else None

    def parts(self, system: str, output: str = "", *, standing: bool = False) -> list[Part]:
        """Parts in the order of their beginning; `standing`: without those that were replaced."""
        query = select(output_parts).where(output_parts.c.system == system)
        if output:
            query = query.where(output_parts.c.output == output)
        if standing:
            query = query.where(output_parts.c.replaced_by == "")
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(output_parts.c.entry)).all()
        return [part_of(row) for row in rows]

    def note_read(
        self, system: str, output: str, consumer: str, parts: Iterable[tuple[str, str]]
    ) -> None:
        """A consumer is about to be given parts, each a partition and a run.

        The same parts again only move the time of the last reading.
        """
        content = packed(sorted([partition, run] for partition, run in parts))
        key = {
            "system": system,
            "output": output,
            "consumer": plain(consumer),
            "digest": text_digest(content),
        }
        same = [output_reads.c[name] == value for name, value in key.items()]
        with writing(self._database) as write:
            again = write.connection.execute(
                output_reads.update().where(*same).values(last_at=write.now)
            ).rowcount
            if not again:
                write.connection.execute(
                    output_reads.insert().values(
                        **key, content=content, first_at=write.now, last_at=write.now
                    )
                )
            write.append(
                What.OUTPUT_READ,
                system=system,
                who=key["consumer"],
                output=output,
                content=key["digest"],
                parts=len(json.loads(content)),
            )

    def reads(self, system: str, output: str = "") -> list[Read]:
        """Who was given what, in the order of the last time."""
        query = select(output_reads).where(output_reads.c.system == system)
        if output:
            query = query.where(output_reads.c.output == output)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(output_reads.c.last_at)).all()
        return [read_of(row) for row in rows]


def recalled_by(write: Writing, run: OutputRun | Part, began_at: float) -> str:
    """The recall that covers whatever the run writes; empty where there is none."""
    query = select(output_recalls).where(output_recalls.c.system == run.system)
    for row in write.connection.execute(query.order_by(output_recalls.c.at)):
        recall = recall_of(row)
        if recall.at >= began_at and recall.blame.covers_run(run):
            return recall.id
    return ""


def run_key(part: Part) -> ColumnElement[bool]:
    return _run(part.system, part.run)


def part_key(part: Part) -> ColumnElement[bool]:
    return _part(part.system, part.output, part.partition, part.run)


def _run(system: str, run: str) -> ColumnElement[bool]:
    return (output_runs.c.system == system) & (output_runs.c.id == run)


def _part(system: str, output: str, partition: str, run: str) -> ColumnElement[bool]:
    return _partition(system, output, partition) & (output_parts.c.run == run)


def _partition(system: str, output: str, partition: str) -> ColumnElement[bool]:
    return (
        (output_parts.c.system == system)
        & (output_parts.c.output == output)
        & (output_parts.c.partition == partition)
    )


def _bind(write: Writing, system: str, run: str, release: str) -> OutputRun:
    found = _manifest(write, system, release)
    models = {pin.name: pin.at.get("version", "") for pin in found.pins("model")}
    values = {
        "system": system,
        "id": run,
        "release": release,
        "models": packed(models),
        "began_at": write.now,
    }
    write.connection.execute(output_runs.insert().values(**values))
    write.append(
        What.OUTPUT_RUN_BEGUN,
        system=system,
        who=f"run {run}",
        run=run,
        release=release,
        models=models,
    )
    return run_of(write.connection.execute(select(output_runs).where(_run(system, run))).one())


def _manifest(write: Writing, system: str, release: str) -> Release:
    require_release(write.connection, release, system)
    query = select(releases).where(releases.c.id == release)
    return release_of(write.connection.execute(query).one())


def _refuse_taken_back(write: Writing, run: OutputRun) -> None:
    """Raises `Quarantined` where nothing that this run writes could be valid."""
    rows = write.connection.execute(select(quarantine).where(quarantine.c.system == run.system))
    denied = {row.digest: f"{row.what}: {row.reason}" for row in rows}
    why = denying(denied, _manifest(write, run.system, run.release)) if denied else {}
    if why:
        raise Quarantined(
            f"Run {run.id} scores with release {run.release[:12]}, which is quarantined "
            f"({'; '.join(why.values())}).",
            remedy=_NEW_RUN,
        )
    recall = recalled_by(write, run, run.began_at)
    if recall:
        raise Quarantined(
            f"Run {run.id} began before what it writes was recalled ({recall}).", remedy=_NEW_RUN
        )


def _insert(write: Writing, run: OutputRun, output: str, partition: str) -> None:
    values: dict[str, Any] = {"output": output, "partition": partition, "run": run.id}
    write.connection.execute(
        output_parts.insert().values(
            **values,
            system=run.system,
            release=run.release,
            models=packed(dict(run.models)),
            begun_at=write.now,
            replaced_by="",
            recall="",
            marked=False,
            entry=write.next_entry,
        )
    )
    write.append(
        What.OUTPUT_BEGUN,
        system=run.system,
        who=f"run {run.id}",
        release=run.release,
        **values,
    )


def _order(write: Writing, mine: Part, version: int, replaced_by: str) -> tuple[str, list[str]]:
    """Who has replaced this part, and whom it has replaced: by the table's versions.

    The ledger may be written in another order than the table. What was begun
    earlier and never read back does not stand any more either.
    """
    if replaced_by:
        return replaced_by, []
    where = _partition(mine.system, mine.output, mine.partition)
    query = select(output_parts).where(where, output_parts.c.run != mine.run)
    others = [part_of(row) for row in write.connection.execute(query)]
    later = [part for part in others if part.version is not None and part.version > version]
    if later:
        return max(later, key=lambda part: part.version or 0).run, []
    return "", [
        part.run
        for part in others
        if not part.replaced_by and (part.version is not None or part.begun_at <= mine.begun_at)
    ]


def _finish(
    write: Writing, part: Part, rows: int | None, version: int, by: str, replaced: list[str]
) -> None:
    run = write.connection.execute(select(output_runs).where(run_key(part))).one()
    recall = part.recall or recalled_by(write, part, run_of(run).began_at)
    write.connection.execute(
        output_parts.update()
        .where(part_key(part))
        .values(written_at=write.now, rows=rows, version=version, replaced_by=by, recall=recall)
    )
    for other in replaced:
        write.connection.execute(
            output_parts.update()
            .where(_part(part.system, part.output, part.partition, other))
            .values(replaced_by=part.run)
        )
    write.append(
        What.OUTPUT_WRITTEN,
        system=part.system,
        who=f"run {part.run}",
        output=part.output,
        partition=part.partition,
        run=part.run,
        rows=rows,
        version=version,
        replaced_by=by,
        replaced=replaced,
        recall=recall,
    )
