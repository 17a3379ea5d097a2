"""The rows that one version of a table has and another has not: found, kept, exported.

Found by the difference of the two versions' data files, so it costs the same
for a thousand rows and for a billion. A file that was rewritten since (by an
update or a compaction) counts with all of its rows: the figures say how many
rows stood in files that it may have replaced.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ebbtide.adapters.delta.history import Log, folder_of, store_of
from ebbtide.adapters.delta.versions import kept_rows, said
from ebbtide.core.errors import NotRestorable, Refused, Unreachable
from ebbtide.core.left import Left

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

_SUMMARY = "left.json"
_INDEX = "index.parquet"
"""A row for each kept file: how many rows, which of them, and its partition."""
_SCHEMA = "schema.parquet"
_PARTITION = "partition."
_PHYSICAL = b"delta.columnMapping.physicalName"


def found(name: str, before: "DeltaTable", after: "DeltaTable") -> Left:
    """What `before` has and `after` has not. Raises `NotRestorable`."""
    commits = [
        commit
        for commit in Log(before).newer(before.version(), after.version())
        if commit.changes_rows and commit.restored is None
    ]
    times = [commit.at for commit in commits if commit.at is not None]
    return Left(
        table=name,
        version=before.version(),
        target=after.version(),
        rows=_rows(_difference(before, after)),
        rewritten=_rows(_difference(after, before)),
        since=min(times, default=None),
        until=max(times, default=None),
        versions=tuple(commit.version for commit in commits),
        writers=tuple(dict.fromkeys(commit.writer for commit in commits)),
    )


def keep(left: Left, before: "DeltaTable", after: "DeltaTable", folder: Path) -> None:
    """Link the data files into a folder of their own, or copy them. It is there whole, or not.

    A link takes no room and outlives a vacuum, which only unlinks.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
            made = Path(aside) / folder.name
            made.mkdir()
            _fill(made, left, before, after)
            made.rename(folder)
        _sync(folder.parent)
    except OSError as fault:
        raise Unreachable(
            f"The {left.rows:,} rows of table `{left.table}` that were left behind cannot be kept "
            f"in {folder}: {said(fault)}",
            remedy=f"They are in version {left.version} of the table until it is vacuumed.",
        ) from fault


def kept(folder: Path) -> Left | None:
    """What a folder keeps; None: nothing. Raises `NotRestorable` where it is damaged."""
    try:
        left = Left.from_json(json.loads((folder / _SUMMARY).read_text(encoding="utf-8")))
        missing = [
            name
            for name in (_INDEX, _SCHEMA, *(_file(n) for n in range(_files(folder))))
            if not (folder / name).is_file()
        ]
    except FileNotFoundError:
        if not folder.exists():
            return None
        missing = [_SUMMARY]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise NotRestorable(f"The rows kept in {folder} cannot be read: {said(fault)}") from fault
    if missing:
        raise NotRestorable(f"The rows kept in {folder} are not whole: {missing[0]} is missing.")
    return left


def export(folder: Path, to: Path) -> int:
    """Write the kept rows to a new Parquet file, whole or not at all; how many they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if to.exists():
        raise Refused(f"{to} is there already.", remedy="Name a file that is not there yet.")
    schema, written = pq.read_schema(folder / _SCHEMA), 0
    try:
        with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as aside:
            made = Path(aside) / to.name
            with pq.ParquetWriter(made, schema) as writer:
                for batch in _batches(folder, schema):
                    writer.write_batch(batch)
                    written += batch.num_rows
            _sync(made)
            made.rename(to)
        _sync(to.parent)
    except pa.ArrowException as fault:
        raise NotRestorable(f"The rows kept in {folder} cannot be read: {said(fault)}") from fault
    except OSError as fault:
        raise Unreachable(f"{to} cannot be written: {said(fault)}") from fault
    return written


def _fill(made: Path, left: Left, before: "DeltaTable", after: "DeltaTable") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = _difference(before, after)
    for n, path in enumerate(files["path"].to_pylist()):
        _take(before, unquote(path), made / _file(n))
    pq.write_table(files.drop_columns(["path"]), made / _INDEX)
    pq.write_table(pa.schema(before.schema().to_arrow()).empty_table(), made / _SCHEMA)
    (made / _SUMMARY).write_text(json.dumps(left.to_json()), encoding="utf-8")
    # What is linked is the table's own file: only what was written here has to be synced.
    for each in (*(path for path in made.iterdir() if path.stat().st_nlink == 1), made):
        _sync(each)


def _difference(one: "DeltaTable", other: "DeltaTable") -> "pa.Table":
    """Files with rows that only `one` has: `path`, `rows`, `keep` (null: all), `partition.*`."""
    import pyarrow as pa

    actions = pa.table(one.get_add_actions(flatten=True))
    masks, other_masks = kept_rows(one), kept_rows(other)
    theirs = set(other.get_add_actions().column("path").to_pylist())
    at, rows, keeps = [], [], []
    listed = zip(actions["path"].to_pylist(), actions["num_records"].to_pylist(), strict=True)
    for n, (path, records) in enumerate(listed):
        mask = masks.get(path)
        if path in theirs:
            mask = _only(mask, other_masks.get(path))
            if mask is None or not any(mask):
                continue
        at.append(n)
        keeps.append(mask)
        rows.append(mask.count(True) if mask is not None else _counted(one, path, records))
    parts = [column for column in actions.column_names if column.startswith(_PARTITION)]
    chosen = actions.select(["path", *parts]).take(pa.array(at, pa.int64()))
    return chosen.append_column("rows", pa.array(rows, pa.int64())).append_column(
        "keep", pa.array(keeps, pa.list_(pa.bool_()))
    )


def _only(mask: list[bool] | None, other: list[bool] | None) -> list[bool] | None:
    """Which rows of one file only the former has; None: none, for the other has them all."""
    if other is None:
        return None
    mine = mask or [True] * len(other)
    return [have and not has for have, has in zip(mine, other, strict=True)]


def _rows(files: "pa.Table") -> int:
    return sum(files["rows"].to_pylist())


def _counted(table: "DeltaTable", path: str, records: int | None) -> int:
    """From the log's statistics; from the file where it has none."""
    import pyarrow.parquet as pq

    if records is not None:
        return records
    with store_of(table).open_input_file(unquote(path)) as file:
        return int(pq.read_metadata(file).num_rows)


def _take(table: "DeltaTable", path: str, to: Path) -> None:
    folder = folder_of(table)
    try:
        if folder is None:
            with store_of(table).open_input_stream(path) as source, to.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            return
        try:
            os.link(folder / path, to)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(folder / path, to)
    except FileNotFoundError as fault:
        raise NotRestorable(
            f"The data file {path} of version {table.version()} is missing: its rows are lost.",
            remedy="Put the file back from a backup.",
        ) from fault


def _batches(folder: Path, schema: "pa.Schema") -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = pq.read_table(folder / _INDEX)
    for n, entry in enumerate(index.to_pylist()):
        parts = {
            column.removeprefix(_PARTITION): index[column][n]
            for column in index.column_names
            if column.startswith(_PARTITION)
        }
        start = 0
        with pq.ParquetFile(folder / _file(n)) as file:
            for batch in file.iter_batches():
                chosen = batch
                if entry["keep"] is not None:
                    mask = entry["keep"][start : start + batch.num_rows]
                    chosen = batch.filter(pa.array(mask, pa.bool_()))
                start += batch.num_rows
                yield _shaped(chosen, schema, parts)


def _shaped(
    batch: "pa.RecordBatch", schema: "pa.Schema", parts: dict[str, Any]
) -> "pa.RecordBatch":
    """The rows with the version's columns: the partition's, and null where a file has none."""
    import pyarrow as pa

    columns = []
    for field in schema:
        physical = (field.metadata or {}).get(_PHYSICAL, field.name.encode()).decode()
        if physical in batch.schema.names:
            columns.append(batch.column(physical).cast(field.type))
        else:
            part = parts.get(field.name, parts.get(physical, pa.scalar(None)))
            columns.append(pa.repeat(part.cast(field.type), batch.num_rows))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _file(n: int) -> str:
    return f"{n:06}.parquet"


def _files(folder: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(folder / _INDEX).num_rows)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
