"""Columns of Parquet files that are one table together."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.core.errors import Refused

if TYPE_CHECKING:
    import pyarrow as pa

Shape = tuple[str, ...]
"""The sorted names of a table's columns."""


def read_files(files: Sequence[Path], columns: Sequence[str] | None = None) -> "pa.Table":
    """All rows of files with one schema, of these columns as far as they have them; None: all.

    Raises `Refused` where there is no file, one cannot be read, or two differ in a type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not files:
        raise Refused("There is no Parquet file to look at.")
    tables = []
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                there = file.schema_arrow.names
                wanted = there if columns is None else [name for name in there if name in columns]
                tables.append(file.read(wanted))
        except (pa.ArrowException, OSError) as fault:
            raise Refused(f"{path.name} cannot be read as Parquet: {fault}") from fault
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as fault:
        raise Refused(f"The files are not one table: {fault}") from fault


def tables_in(folder: Path) -> Mapping[Shape, list[Path]]:
    """A folder's Parquet files by their columns: those with the same are one table.

    Names of files are no guide: engines that write in parts make new ones each time.
    """
    found: dict[Shape, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*.parquet") if path.is_file()):
        found.setdefault(_shape(path), []).append(path)
    return found


def named(shapes: Iterable[Shape]) -> str:
    return "; ".join(", ".join(shape) for shape in sorted(shapes))


def _shape(path: Path) -> Shape:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return tuple(sorted(pq.read_schema(path).names))
    except (pa.ArrowException, OSError) as fault:
        raise Refused(f"{path.name} cannot be read as Parquet: {fault}") from fault
