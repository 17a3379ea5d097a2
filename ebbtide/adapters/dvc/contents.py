"""The files of features: what is in them, and how they come out of DVC's cache."""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from ebbtide.adapters.dvc.lock import Object, missing
from ebbtide.core.digests import canonical, file_digest, tree
from ebbtide.core.errors import NotRestorable, Refused

LARGEST_COPY = 256 * 1024 * 1024
"""Bytes. A larger folder is hard-linked: a copy costs seconds and as much disk again. A copy
is better where it can be had, for root can write through a link's read-only mode into the cache."""
_SETTLED = 2.0
"""Seconds after which a file's next change has another time for sure."""


def describe(folder: Path) -> dict[str, str]:
    """As `describe_files`, of all files in a folder."""
    return describe_files(
        {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    )


def describe_files(there: Mapping[str, Path]) -> dict[str, str]:
    """Columns with their types, as canonical JSON, and rows of all Parquet files among some.

    `there`: where each file lies, by the name that it goes by. `schema` is the union
    over the files, empty where there is none; a column of several types has them
    all. Raises `Refused` for a file that is not Parquet in spite of its name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, set[str]] = {}
    rows = 0
    files = {name: path for name, path in sorted(there.items()) if name.endswith(".parquet")}
    for path in files.values():
        try:
            with pq.ParquetFile(path) as file:
                rows += file.metadata.num_rows
                for field in file.schema_arrow:
                    columns.setdefault(field.name, set()).add(str(field.type))
        except (pa.ArrowException, OSError) as fault:
            raise Refused(f"{path} cannot be read as Parquet: {fault}") from fault
    schema = [
        {"name": name, "type": " | ".join(sorted(types))} for name, types in sorted(columns.items())
    ]
    return {"schema": canonical(schema).decode() if files else "", "rows": str(rows)}


class Hashes:
    """sha256 of objects in DVC's cache, each read once as long as it is not touched.

    A file that was changed a moment ago is not remembered: a second change could
    leave it with the same times.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int, int], str] = {}

    def contents_of(self, objects: Mapping[str, Object], out: str, commit: str) -> dict[str, str]:
        """By path in an output. Raises `NotRestorable` where an object is missing."""
        contents = {}
        for path, thing in objects.items():
            try:
                contents[path] = self._of(thing.path)
            except FileNotFoundError as fault:
                raise missing(thing.path, f"{out}/{path}", commit) from fault
        if not contents:
            raise Refused(f"`{out}` at commit {commit[:10]} is empty.")
        return contents

    def _of(self, path: Path) -> str:
        seen = path.stat()
        key = (str(path), seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        if key in self._known:
            return self._known[key]
        found = file_digest(path)
        if time.time() - max(seen.st_mtime, seen.st_ctime) > _SETTLED:
            self._known[key] = found
        return found


def build(objects: Mapping[str, Object], out: str, commit: str, folder: Path) -> None:
    """Fill a folder from the cache. Raises `NotRestorable` where an object is missing."""
    try:
        _build(objects, folder)
    except FileNotFoundError as fault:
        raise missing(fault.filename, out, commit) from fault


def refuse_damaged(objects: Mapping[str, Object], out: str, commit: str) -> None:
    """Raise `NotRestorable` where an object is not what DVC's own hash says."""
    for path, thing in objects.items():
        if not thing.is_whole(thing.path):
            raise NotRestorable(
                f"DVC's object {thing.path} of `{out}/{path}` is damaged.",
                remedy=f"Remove it, then run `dvc pull` or `dvc repro` at commit {commit[:10]}.",
            )


def _build(objects: Mapping[str, Object], folder: Path) -> None:
    copy = sum(thing.path.stat().st_size for thing in objects.values()) <= LARGEST_COPY
    for path, thing in objects.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        _bring(thing.path, file, copy)


def _bring(source: Path, file: Path, copy: bool) -> None:
    """By a copy, or by a hard link where that is asked for and can be had."""
    if not copy:
        try:
            os.link(source, file)
            return
        except OSError:
            pass  # Another file system, or one without hard links.
    shutil.copyfile(source, file)


def differing(folder: Path, objects: Mapping[str, Object]) -> list[str]:
    if not objects:
        return []
    there = tree(folder)
    missed = [f"{folder / path} is missing." for path in objects if path not in there]
    strange = [f"{folder / path} does not belong there." for path in there if path not in objects]
    changed = [
        f"{folder / path} was changed."
        for path, thing in objects.items()
        if path in there and not thing.is_whole(folder / path)
    ]
    return sorted(missed + strange + changed)


def take(out: Path, folder: Path) -> None:
    """Fill a folder with an output that is about to be removed, without copying what is its own.

    A file that is shared with DVC's cache is treated as one that comes out of it.
    """
    files = sorted(path for path in out.rglob("*") if path.is_file())
    shared = [path for path in files if path.is_symlink() or path.stat().st_nlink > 1]
    copy = sum(path.stat().st_size for path in shared) <= LARGEST_COPY
    for path in files:
        file = folder / path.relative_to(out)
        file.parent.mkdir(parents=True, exist_ok=True)
        _bring(path.resolve(), file, copy and path in shared)
