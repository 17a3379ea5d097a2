"""Folders compared by the names and sizes of their files: seconds where hashing takes minutes."""

from collections.abc import Mapping
from pathlib import Path

_NAMED = 5


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by its relative path; none where it is not there."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def misfits(folder: Path, wanted: Mapping[str, int | None]) -> list[str]:
    """Which files of a folder are missing, too many or of another size; None: of any size.

    `wanted` is empty where nobody knows the files any more: then there must be some.
    """
    there = sizes(folder)
    if not there:
        return [f"{folder} is missing, or has no files."]
    if not wanted:
        return []
    missing = [f"{folder / path} is missing." for path in wanted if path not in there]
    strange = [f"{folder / path} does not belong there." for path in there if path not in wanted]
    other = [
        f"{folder / path} has {there[path]} bytes, not {size}."
        for path, size in wanted.items()
        if path in there and size is not None and there[path] != size
    ]
    found = sorted(missing + strange + other)
    more = [f"{len(found) - _NAMED} more files differ."] if len(found) > _NAMED else []
    return found[:_NAMED] + more
