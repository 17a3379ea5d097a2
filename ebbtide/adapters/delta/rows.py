"""Whatever a job gives as rows, as a stream of Arrow batches with the columns that say whose."""

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from ebbtide.core.errors import Refused
from ebbtide.core.outputs import Part

if TYPE_CHECKING:
    import pyarrow as pa

RESERVED = ("_partition", "_run", "_valid", "_release")
"""The columns that ebbtide adds: partition, run and release as text, `_valid` as a boolean."""


def arrow(rows: Any, part: Part) -> "pa.RecordBatchReader":
    """The rows, each stamped. Raises `Refused` for what is no rows, and for none of them.

    An empty frame is what a job gives that went wrong: it never replaces rows.
    """
    import pyarrow as pa

    given = _stream(rows)
    batches = (batch for batch in given if batch.num_rows)
    first = next(batches, None)
    if first is None:
        raise Refused(
            f"Output `{part.output}`, {part.partition}: there are no rows to write.",
            remedy="What was there stays. A partition is never replaced by nothing.",
        )
    schema = _stamped(given.schema)
    stamped = (_stamp(batch, part, schema) for batch in chain([first], batches))
    return pa.RecordBatchReader.from_batches(schema, stamped)


def columns_of(rows: Any) -> Any:
    """The schema that a table of such rows has; of a Delta table: the names of its columns."""
    from deltalake import DeltaTable

    if isinstance(rows, DeltaTable):
        return [field.name for field in rows.schema().fields]
    return _stamped(_schema(rows))


def _schema(rows: Any) -> "pa.Schema":
    import pyarrow as pa

    # Of a stream only the schema: its batches can be had once.
    return rows.schema if isinstance(rows, pa.RecordBatchReader) else _stream(rows).schema


def _stream(rows: Any) -> "pa.RecordBatchReader":
    import pyarrow as pa

    if isinstance(rows, pa.RecordBatchReader):
        return rows
    try:
        if isinstance(rows, list):
            table = pa.Table.from_pylist([_mapping(row) for row in rows])
        elif type(rows).__module__.partition(".")[0] == "pandas":
            table = pa.Table.from_pandas(rows, preserve_index=False)
        else:
            return pa.RecordBatchReader.from_stream(rows)
    except (TypeError, ValueError, pa.ArrowException) as fault:
        raise Refused(
            f"These are no rows that can be written: {fault}",
            remedy="Give Arrow data, a pandas frame, or a list of mappings.",
        ) from fault
    return table.to_reader()


def _mapping(row: Any) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise TypeError(f"{type(row).__name__} is no mapping of columns to values")
    return row


def _stamped(schema: "pa.Schema") -> "pa.Schema":
    import pyarrow as pa

    taken = [name for name in schema.names if name in RESERVED]
    if taken:
        raise Refused(
            f"The rows have a column `{taken[0]}` of their own: ebbtide adds it.",
            remedy="Leave it out, or name it otherwise.",
        )
    text = [pa.field(name, pa.string()) for name in ("_release", "_partition", "_run")]
    return pa.schema([*schema.remove_metadata(), *text, pa.field("_valid", pa.bool_())])


def _stamp(batch: "pa.RecordBatch", part: Part, schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    said = (part.release, part.partition, part.run)
    stamps = [pa.repeat(pa.scalar(each, pa.string()), batch.num_rows) for each in said]
    valid = pa.repeat(pa.scalar(True), batch.num_rows)
    return pa.RecordBatch.from_arrays([*batch.columns, *stamps, valid], schema=schema)
