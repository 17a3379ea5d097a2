"""Batch outputs as Delta tables: a partition is replaced, marked and read as a whole.

The table is partitioned by what the ledger knows a part by (`_partition`,
`_run`) and by `_valid`: what stands is read from the log alone, and marking
rewrites the files of what is marked and of nothing else. delta-rs commits
optimistically: writers of different partitions do not hinder each other, and of
two that write the same one the slower begins again.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ebbtide.adapters.delta.rows import RESERVED, arrow, columns_of
from ebbtide.adapters.delta.versions import make_durable, options, refuse_away, said
from ebbtide.adapters.system.things import OutputThing
from ebbtide.core.errors import Conflict, EbbtideError, Refused, Unknown, Unreachable
from ebbtide.core.outputs import OutputTold, Part, Standing

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

Allowed = Callable[[Mapping[str, Standing]], Collection[str]]

_BY = ["_partition", "_run", "_valid"]
_ATTEMPTS = 20
"""Lost races for one partition before a writer gives up."""
_MARKED_AT_ONCE = 500
"""Partitions that one commit marks: each has a file open while its rows are copied."""


class OutputTables:
    """Satisfies `ebbtide.core.outputs.OutputStore`; may be used from any thread."""

    def __init__(self, things: Mapping[str, OutputThing], at: Callable[[str], Path]) -> None:
        self._things = dict(things)
        self._at = at

    @property
    def told(self) -> Mapping[str, OutputTold]:
        return {
            name: OutputTold(thing.rescore, thing.consumers) for name, thing in self._things.items()
        }

    def write(self, part: Part, rows: Any) -> Standing | None:
        """Replace the part's partition in one commit, durable when it returns, and read it back.

        Raises `Refused` for rows that cannot be written or are none, `Conflict`
        where others wrote the same partition again and again.
        """
        from deltalake.exceptions import CommitFailedError, DeltaError

        with self._reaching(part.output):
            for _ in range(_ATTEMPTS):
                stream = arrow(rows, part)  # first: rows that are none make no table
                table = self._made(part.output, rows)
                try:
                    _overwrite(table, stream, part)
                except CommitFailedError:
                    if _once_only(rows):
                        break
                except DeltaError as fault:
                    refuse_away(fault)
                    raise _meaning(part, fault) from fault
                else:
                    return self._read_back(table, part)
        raise Conflict(
            f"Output `{part.output}`, {part.partition}, is being written by others.",
            remedy="Run the job again once they are done.",
        )

    def standing(self, output: str) -> Mapping[str, Standing]:
        """What the table shows now, by partition; nothing where there is no table yet."""
        with self._reaching(output):
            table = self._open(output)
            return _standing(table) if table else {}

    def mark(self, output: str, parts: Mapping[str, str]) -> None:
        """Mark the rows of partitions invalid where a run still stands there. Idempotent."""
        names = sorted(parts)
        for n in range(0, len(names), _MARKED_AT_ONCE):
            some = names[n : n + _MARKED_AT_ONCE]
            self._mark(output, {partition: parts[partition] for partition in some})

    def read(
        self,
        output: str,
        allowed: Allowed,
        partitions: Collection[str] | None,
        columns: list[str] | None,
    ) -> tuple["pa.RecordBatchReader", frozenset[tuple[str, str]]]:
        """Arrow batches of the partitions that `allowed` names, and which those are.

        `allowed` is asked once with what the table shows, and answers with the
        partitions that may be read: rows and answer are of one version. Raises
        `Unknown` where nothing was written yet.
        """
        import pyarrow as pa

        with self._reaching(output):
            table = self._open(output)
            if table is None:
                raise Unknown(f"Output `{output}` was never written.")
            there = _standing(table)
            wanted = there.keys() & set(partitions) if partitions is not None else there.keys()
            may = wanted & set(allowed(there))
            kept = columns if columns is not None else columns_of(table)
            found = table.scan(columns=[*kept], predicate=_only(may, there.keys()))
            # What it scans comes as views, which much of pyarrow cannot compute with.
            reader = pa.RecordBatchReader.from_stream(found).cast(_types(table, kept))
        return reader, frozenset((partition, there[partition].run) for partition in may)

    def _mark(self, output: str, parts: Mapping[str, str]) -> None:
        from deltalake.exceptions import CommitFailedError

        with self._reaching(output):
            for _ in range(_ATTEMPTS):
                table = self._open(output)
                if table is None:
                    return
                there = _standing(table)
                bad = [
                    partition
                    for partition, run in parts.items()
                    if partition in there and there[partition].valid and there[partition].run == run
                ]
                if not bad:
                    return
                try:
                    table.update({"_valid": "false"}, predicate=f"_valid = true AND {_among(bad)}")
                except CommitFailedError:
                    continue
                self._make_durable(output, table, bad)
                return
        raise Conflict(
            f"Output `{output}` is being written so fast that it could not be marked.",
            remedy="No reader through ebbtide sees what is recalled. Run it again for the mark.",
        )

    def _made(self, output: str, rows: Any) -> "DeltaTable":
        """The table; made with the columns of the rows where there is none yet."""
        from deltalake import DeltaTable
        from deltalake.exceptions import CommitFailedError, DeltaError

        found = self._open(output)
        if found is not None:
            return found
        location = self._location(output)
        try:
            return DeltaTable.create(
                location,
                columns_of(rows),
                mode="ignore",
                partition_by=_BY,
                storage_options=options(location),
            )
        except (CommitFailedError, DeltaError) as fault:
            other = self._open(output)  # made by another writer at the same time
            if other is None:
                raise Refused(f"Output `{output}` cannot be made: {said(fault)}") from fault
            return other

    def _open(self, output: str) -> "DeltaTable | None":
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        location = self._location(output)
        try:
            if not DeltaTable.is_deltatable(location, options(location)):
                return None
            table = DeltaTable(location, storage_options=options(location))
        except DeltaError as fault:
            refuse_away(fault)
            raise Refused(f"Output `{output}` at {location}: {said(fault)}") from fault
        if table.metadata().partition_columns != _BY:
            raise Refused(
                f"The table at {location} was not made as an output: it is not partitioned by "
                f"{', '.join(_BY)}.",
                remedy=f"Give output `{output}` a `path` of its own.",
            )
        return table

    def _location(self, output: str) -> str:
        if output not in self._things:
            known = ", ".join(self._things) or "none"
            raise Unknown(
                f"No output `{output}` in the system file.", remedy=f"There are: {known}."
            )
        path = self._things[output].path
        return path if "://" in path else str(self._at(path))

    def _read_back(self, table: "DeltaTable", part: Part) -> Standing | None:
        table.update_incremental()
        self._make_durable(part.output, table, [part.partition])
        return _standing(table).get(part.partition)

    def _make_durable(self, output: str, table: "DeltaTable", partitions: Collection[str]) -> None:
        """Sync what was committed, files first: delta-rs itself syncs nothing."""
        location = self._location(output)
        if "://" in location:
            return
        actions = table.get_add_actions(flatten=True)
        names = actions.column("partition._partition").to_pylist()
        paths = actions.column("path").to_pylist()
        mine = set(partitions)
        for path in [path for path, name in zip(paths, names, strict=True) if name in mine]:
            _sync(Path(location) / unquote(path))
        make_durable(Path(location) / "_delta_log")

    @contextmanager
    def _reaching(self, output: str) -> Iterator[None]:
        """Let a store that is away be `Unreachable`, whatever was asked of it."""
        try:
            yield
        except OSError as fault:
            raise Unreachable(
                f"Output `{output}` at {self._location(output)} cannot be reached: {said(fault)}",
                remedy="Try again once its store is back, or has room.",
            ) from fault


def _overwrite(table: "DeltaTable", stream: "pa.RecordBatchReader", part: Part) -> None:
    from deltalake import CommitProperties, write_deltalake

    write_deltalake(
        table,
        stream,
        mode="overwrite",
        predicate=_among([part.partition]),
        # A release may bring a column; the rows of others have none in it then.
        schema_mode="merge",
        commit_properties=CommitProperties({"ebbtide.run": part.run}),
    )


def _meaning(part: Part, fault: Exception) -> EbbtideError:
    text = f"Output `{part.output}`, {part.partition}: {said(fault)}"
    if "os error" in text.lower():
        return Unreachable(text, remedy="Try again once its store is back, or has room.")
    return Refused(text, remedy="Nothing was written. Correct the rows and run the job again.")


def _once_only(rows: Any) -> bool:
    """A stream cannot be begun again."""
    import pyarrow as pa

    return isinstance(rows, pa.RecordBatchReader)


def _standing(table: "DeltaTable") -> dict[str, Standing]:
    actions = table.get_add_actions(flatten=True)
    names = ("partition._partition", "partition._run", "partition._valid", "num_records")
    if not actions.num_rows:
        return {}
    found: dict[str, Standing] = {}
    version = table.version()
    for partition, run, valid, rows in zip(
        *(actions.column(name).to_pylist() for name in names), strict=True
    ):
        one = Standing(run or "", int(rows or 0), version, valid is True)
        found[partition] = _both(found[partition], one) if partition in found else one
    return {partition: each for partition, each in found.items() if partition is not None}


def _both(one: Standing, other: Standing) -> Standing:
    """Several files of one partition. Of two runs, or half marked: nobody's, so never read."""
    run = one.run if one.run == other.run else ""
    return Standing(run, one.rows + other.rows, one.version, one.valid and other.valid)


def _types(table: "DeltaTable", columns: list[str]) -> "pa.Schema":
    import pyarrow as pa

    whole = pa.schema(table.schema().to_arrow())
    return pa.schema([whole.field(name) for name in columns])


def _only(may: Collection[str], there: Collection[str]) -> str:
    """Rows of those partitions, said by whichever list is the shorter."""
    hidden = set(there) - set(may)
    if not may:
        return "_valid = true AND false"
    if not hidden:
        return "_valid = true"
    shorter = f"NOT ({_among(hidden)})" if len(hidden) < len(may) else _among(may)
    return f"_valid = true AND {shorter}"


def _among(partitions: Collection[str]) -> str:
    quoted = ", ".join("'" + each.replace("'", "''") + "'" for each in sorted(partitions))
    return f"_partition IN ({quoted})"


def _sync(file: Path) -> None:
    for path in chain([file], file.parents[:1]):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


assert set(_BY) < set(RESERVED)
