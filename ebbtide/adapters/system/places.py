"""The folders that a system's rollbacks write to: there, writable, and with room enough."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ebbtide.adapters.system.file import SystemFile
from ebbtide.core.release import Release


def cannot_write(folder: Path) -> list[str]:
    """Why this process could not write there; a folder that is missing would be made."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return [f"{there} is no folder."]
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        return [f"{there} cannot be written by this user."]
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return [f"{there} is on a file system that is mounted read-only."]
    return []


def link_folders(file: SystemFile) -> Iterator[Path]:
    """The folders of the links that follow the route, each once."""
    seen = {file.at(link).parent for link in _links(file.model_dump()["layers"])}
    yield from sorted(seen)


def room(state: Path, release: Release | None) -> tuple[list[str], int, int]:
    """What is wrong; bytes that are free; bytes that another release like this one needs.

    Only what is kept below `state` counts; twice that is asked for, because a
    content is built beside its final place.
    """
    there = state
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    digests = {pin.digest for pins in release.layers.values() for pin in pins} if release else set()
    kept = [folder / one for folder in _folders(state) for one in digests]
    needed = 2 * sum(_size(folder) for folder in kept if folder.is_dir())
    if free < needed:
        return [f"{there} has {_mb(free)} free; a release needs up to {_mb(needed)}."], free, needed
    return [], free, needed


def _links(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key == "link" and isinstance(value, str) and value:
                yield value
            else:
                yield from _links(value)


def _folders(state: Path) -> list[Path]:
    return [folder for folder in state.iterdir() if folder.is_dir()] if state.is_dir() else []


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _mb(size: int) -> str:
    return f"{size / 1_000_000:,.0f} MB"
