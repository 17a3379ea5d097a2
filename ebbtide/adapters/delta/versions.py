"""What one version of a Delta table holds, and how ebbtide commits to one."""

import json
import os
import re
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ebbtide.adapters.delta.history import folder_of, store_of
from ebbtide.core.digests import digest
from ebbtide.core.errors import EbbtideError, NotRestorable
from ebbtide.core.release import Pin

if TYPE_CHECKING:
    from deltalake import DeltaTable

_LOOK_BACK = 20
"""Commits after a restore among which its unfinished properties are looked for."""
_LARGEST_VERSION = 2**63 - 1
_VECTORS = "deletionVectors"
"""The feature of Delta's protocol without which no file has a deletion vector."""
_LONGEST = 300
_SAGA = "ebbtide.saga"
_PROPERTIES = "ebbtide.properties"
_OF_THE_CONTENT = (
    "delta.constraints.",
    "delta.columnMapping.",
    "delta.feature.",
    "delta.minReaderVersion",
    "delta.minWriterVersion",
)
"""Properties that describe a version's rows, columns or protocol: they go with the version."""
_REMOTE = {
    "timeout": "30s",
    "connect_timeout": "5s",
    "max_retries": "3",
    "retry_timeout": "20s",
}
"""Object stores otherwise retry for three minutes before they say that they are away."""
_AWAY = re.compile(
    "Generic (S3|MicrosoftAzure|GCS|HTTP) error|lacked (the necessary privileges|valid auth)"
)
"""What object stores say that do not answer, or not to us."""
_AT_ONCE = 16
"""Files that an object store is asked about at once: one by one, each waits for two answers."""


def fingerprint(table: "DeltaTable") -> str:
    """What a version's content is compared by, the same after any restore of it.

    Covers the data files with their sizes, the rows deleted from them, the
    schema and the partitioning; not the properties, which a restore reverts and
    a move gives back.
    """
    return digest(
        {
            "files": sorted(_files(table).items()),
            "deleted": sorted((path, digest(keep)) for path, keep in kept_rows(table).items()),
            "schema": json.loads(table.schema().to_json()),
            "partitioned by": table.metadata().partition_columns,
        }
    )


def _files(table: "DeltaTable") -> dict[str, int]:
    """Size in bytes of every data file, by its path as the log has it."""
    actions = table.get_add_actions()
    paths, sizes = actions.column("path"), actions.column("size_bytes")
    return dict(zip(paths.to_pylist(), sizes.to_pylist(), strict=True))


def kept_rows(table: "DeltaTable") -> dict[str, list[bool]]:
    """For each file with a deletion vector, which of its rows are still there."""
    if _VECTORS not in (table.protocol().reader_features or ()):
        return {}
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    try:
        found = pa.RecordBatchReader.from_stream(table.deletion_vectors()).read_all().to_pylist()
    except (DeltaError, pa.ArrowException) as fault:
        refuse_away(fault)
        raise NotRestorable(
            f"The deletion vectors of {table.table_uri} at version {table.version()} cannot be "
            f"read: {said(fault)}"
        ) from fault
    return {
        vector["filepath"].removeprefix(table.table_uri): vector["selection_vector"]
        for vector in found
    }


def rows(table: "DeltaTable") -> int:
    """From the log's statistics; by counting where a file has none."""
    counts = table.get_add_actions().column("num_records").to_pylist()
    if None in counts:
        return _counted(table)
    return int(sum(counts)) - sum(keep.count(False) for keep in kept_rows(table).values())


def _counted(table: "DeltaTable") -> int:
    import pyarrow as pa

    try:
        batches = pa.RecordBatchReader.from_stream(table.scan())
        return sum(int(batch.num_rows) for batch in batches)
    except pa.ArrowException as fault:
        refuse_away(fault)
        raise NotRestorable(
            f"{table.table_uri} at version {table.version()} cannot be counted: {said(fault)}"
        ) from fault


def data_files(table: "DeltaTable") -> dict[str, int]:
    """Size in bytes of every data file, by its path below the table's folder."""
    return {unquote(path): size for path, size in _files(table).items()}


def log_entry(table: "DeltaTable", version: int) -> tuple[int, ...] | None:
    """Tells a commit's file on this disk from any other; None where there is none."""
    folder = folder_of(table)
    try:
        found = os.stat(f"{folder}/_delta_log/{version:020}.json") if folder else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size) if found else None


def log_mark(location: str) -> dict[str, tuple[int, ...]]:
    """Tells a table's log on this disk from what it was, file by file; empty: nobody can.

    Names alone do not tell it: a cleaned-up or rewritten entry is another log.
    """
    if "://" in location:
        return {}
    try:
        with os.scandir(f"{location}/_delta_log") as entries:
            found = {entry.name: entry.stat() for entry in entries}
    except OSError:
        return {}
    return {
        name: (each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns)
        for name, each in found.items()
    }


def newest_in(mark: Mapping[str, Any]) -> int:
    """The newest version of a log, by the names of its files; -1: it has none."""
    numbers = (re.match(r"[0-9]{20}(?=[.])", name) for name in mark)
    return max((int(number.group()) for number in numbers if number), default=-1)


def lacking(table: "DeltaTable", sizes: Mapping[str, int]) -> list[str]:
    """Of these data files with their sizes, those that are gone or have another."""
    there = _sizes_there(table, sizes)
    faults = []
    for path, size in sizes.items():
        if path not in there:
            faults.append(f"the data file {path} is missing.")
        elif there[path] != size:
            faults.append(f"{path} has {there[path]} bytes, not {size}.")
    return faults


def _sizes_there(table: "DeltaTable", paths: Collection[str]) -> dict[str, int]:
    """Size in bytes of those of the table's files that are there."""
    folder = folder_of(table)
    if folder is None:
        return _sizes_stored(table, paths)
    # Asked of the disk itself: the table's own store takes twenty times as long.
    there = {}
    for path in paths:
        try:
            found = os.stat(f"{folder}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        if S_ISREG(found.st_mode):
            there[path] = found.st_size
    return there


def _sizes_stored(table: "DeltaTable", paths: Collection[str]) -> dict[str, int]:
    from pyarrow.fs import FileType

    store = store_of(table)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        infos = pool.map(store.get_file_info, paths)
        return {info.path: info.size for info in infos if info.type == FileType.File}


def restore(table: "DeltaTable", to: Pin, note: str) -> bool:
    """Commit the restore; False where somebody else committed first.

    The commit carries the properties that it reverts, so that a process that
    finds it unfinished knows what to give back.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError

    properties = json.dumps(
        {**table.metadata().configuration, **lost_properties(table)}, sort_keys=True
    )
    try:
        table.restore(
            int(to.at["version"]),
            ignore_missing_files=False,
            protocol_downgrade_allowed=False,
            **_quietly({_SAGA: note, _PROPERTIES: properties}),
        )
    except CommitFailedError:
        return False
    except DeltaError as fault:
        refuse_away(fault)
        raise NotRestorable(f"{called(to)} could not be restored: {said(fault)}") from fault
    return True


def _quietly(metadata: Mapping[str, str]) -> dict[str, Any]:
    """How ebbtide commits: named in the history, never tried again over another's commit.

    Without log clean-up: right after a restore the retention that was reverted
    would decide which older versions survive.
    """
    from deltalake import CommitProperties, PostCommitHookProperties

    return {
        "commit_properties": CommitProperties(dict(metadata), max_commit_retries=0),
        "post_commithook_properties": PostCommitHookProperties(
            create_checkpoint=False, cleanup_expired_logs=False
        ),
    }


def return_properties(table: "DeltaTable", note: str) -> bool:
    """Set what a restore reverted; False where somebody else committed first."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    lost = lost_properties(table)
    if not lost:
        return True
    try:
        table.alter.set_table_properties(lost, raise_if_not_exists=False, **_quietly({_SAGA: note}))
    except CommitFailedError:
        return False
    except DeltaError as fault:
        refuse_away(fault)
        raise EbbtideError(
            f"{table.table_uri} was restored, but not its properties "
            f"{', '.join(sorted(lost))}: {said(fault)}"
        ) from fault
    return True


def lost_properties(table: "DeltaTable") -> dict[str, str]:
    """What the newest restore of ebbtide reverted and nobody has set since."""
    for commit in table.history(_LOOK_BACK):
        if str(commit.get("operation")).endswith("TBLPROPERTIES"):
            return {}
        if _PROPERTIES in commit:
            return _differing(json.loads(commit[_PROPERTIES]), table.metadata().configuration)
    return {}


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in before.items()
        if now.get(name) != value and not name.startswith(_OF_THE_CONTENT)
    }


def make_durable(log: Path) -> None:
    """Sync the newest commits and their folder: delta-rs itself syncs nothing."""
    for path in (*sorted(log.glob("*.json"))[-4:], log):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def options(location: str) -> dict[str, str] | None:
    return dict(_REMOTE) if "://" in location else None


def is_version(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,19}", text)) and int(text) <= _LARGEST_VERSION


def called(pin: Pin) -> str:
    return f"Table `{pin.name}` at version {pin.at.get('version')}"


def refuse_away(fault: Exception) -> None:
    """Raises `OSError` where it was the store that failed, and not what lies there."""
    if is_away(fault):
        raise OSError(str(fault)) from fault


def is_away(fault: Exception) -> bool:
    """Whether it was the store that failed, and not what lies there.

    A checkpoint or a data file that cannot be fetched comes as the same error as one
    that is damaged: only the words of the object store, deep inside, tell them apart.
    """
    return isinstance(fault, OSError) or bool(_AWAY.search(str(fault)))


def said(fault: BaseException) -> str:
    """A fault in one line: delta-rs draws trees in colour and appends its own stack trace."""
    plain = re.sub(r"\x1b\[[0-9;]*m|\u21b3|\u251c", "", str(fault))
    text = " ".join(re.split(r"\n\s*0: ", plain)[0].split())
    return text[:_LONGEST] or type(fault).__name__
