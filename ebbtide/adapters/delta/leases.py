"""Second names for the files of pinned versions: a vacuum takes the first, and the bytes stay.

A lease is a folder with hard links to a version's data files and to the log that
leads there, so it takes no room while the table has them, and it is a Delta
table of its own. It needs the table's own file system: for a table elsewhere (an
object store, another disk) no lease is kept, and only its own retention protects
it. Limit: who writes into a data file, which no writer of Delta does, changes both names.
"""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ebbtide.adapters.delta.history import folder_of
from ebbtide.adapters.delta.versions import (
    called,
    data_files,
    fingerprint,
    is_version,
    kept_rows,
    lacking,
    said,
)
from ebbtide.adapters.disk.files import scratch
from ebbtide.adapters.disk.keeping import remove
from ebbtide.core.errors import NotRestorable
from ebbtide.core.release import Pin

if TYPE_CHECKING:
    from deltalake import DeltaTable

_LOG = "_delta_log"
_ENTRY = re.compile(r"(\d{20})\.(json|checkpoint.*\.parquet|checkpoint.*\.json)")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES)
"""What a file system says where it has no such links, or may not make this one."""


class Leases:
    """Leases below a folder: `<folder>/<table>/<fingerprint>`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, pin: Pin) -> Path | None:
        """Where the lease of a pin is, or would be; None: the pin names no place."""
        if not (_NAME.fullmatch(pin.name) and _DIGEST.fullmatch(pin.digest)):
            return None
        return self._folder / pin.name / pin.digest

    def keep(self, pin: Pin, table: "DeltaTable") -> bool:
        """Lease the version that `table` was opened at. False: it cannot be linked here.

        It is there whole and on disk, or not at all. Raises `NotRestorable` where
        what would be leased is not what was pinned.
        """
        place, folder = self.place(pin), folder_of(table)
        if place is None or folder is None or not self.can(folder):
            return False
        if not self.faults(pin):
            return True
        with scratch(place) as aside:
            if not _link_all(_files_of(table, folder), folder, aside / "lease"):
                return False
            _check(pin, aside / "lease")
            if place.exists():
                remove(place, lambda: False)  # not whole any more: a new one takes its place
            (aside / "lease").rename(place)
        _sync(place.parent)
        return True

    def can(self, folder: Path) -> bool:
        """Whether the table's folder and the leases are on one file system."""
        there = next(each for each in (self._folder, *self._folder.parents) if each.exists())
        return folder.is_dir() and there.stat().st_dev == folder.stat().st_dev

    def faults(self, pin: Pin) -> list[str]:
        """Why the lease does not have the version; empty: it has. Bytes are not read."""
        place = self.place(pin)
        if place is None or not place.is_dir():
            return [f"no lease of {called(pin)} is kept: `ebbtide gc` takes it where it can"]
        try:
            _check(pin, place)
        except NotRestorable as fault:
            return fault.message.splitlines()
        return []

    def open(self, pin: Pin) -> "DeltaTable | None":
        """The leased version as a table of its own; None where it is not whole."""
        place = self.place(pin)
        return _table(pin, place) if place is not None and not self.faults(pin) else None

    def give_back(self, pin: Pin, table: "DeltaTable") -> bool:
        """Give the table the files back that it lacks, each whole and at once; whether it did.

        Nothing that is there is touched. False: the lease does not have them.
        """
        place, folder = self.place(pin), folder_of(table)
        if place is None or folder is None or self.faults(pin):
            return False
        for path in _data_files(table, folder):
            there = folder / path
            if not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                os.link(place / path, there)
                _sync(there.parent)
        return not lacking(table, data_files(table))

    def drop(self, pin: Pin, needed: Callable[[], bool]) -> bool:
        place = self.place(pin)
        return place is not None and remove(place, needed)


def _files_of(table: "DeltaTable", folder: Path) -> list[str]:
    """The data files of the version, and the log from its last checkpoint on."""
    version, entries = table.version(), []
    for path in (folder / _LOG).iterdir():
        found = _ENTRY.fullmatch(path.name)
        if found and int(found[1]) <= version:
            entries.append(path.name)
    whole = f"{_last_checkpoint(entries):020}"
    log = [f"{_LOG}/{name}" for name in entries if name >= whole]
    sidecars = (folder / _LOG / "_sidecars").glob("*.parquet")
    return [
        *_data_files(table, folder),
        *log,
        *(path.relative_to(folder).as_posix() for path in sidecars),
    ]


def _last_checkpoint(entries: list[str]) -> int:
    """Of those in one file: one in several parts may still be in the making."""
    single = [name for name in entries if name.endswith(".checkpoint.parquet")]
    return max((int(name[:20]) for name in single), default=0)


def _data_files(table: "DeltaTable", folder: Path) -> list[str]:
    paths = [unquote(path) for path in table.get_add_actions().column("path").to_pylist()]
    odd = [path for path in paths if "://" in path or path.startswith("/") or ".." in path]
    if odd:
        raise NotRestorable(f"{table.table_uri} has a data file elsewhere: {odd[0]}.")
    if kept_rows(table):
        vectors = folder.rglob("deletion_vector_*.bin")
        paths += [path.relative_to(folder).as_posix() for path in vectors]
    return paths


def _link_all(paths: list[str], folder: Path, to: Path) -> bool:
    to.mkdir()
    folders = {to}
    for path in paths:
        place = to / path
        place.parent.mkdir(parents=True, exist_ok=True)
        folders.update(each for each in place.parents if each.is_relative_to(to))
        try:
            os.link(folder / path, place)
        except OSError as fault:
            if fault.errno in _NO_LINK:
                return False
            raise
    for each in folders:
        _sync(each)
    return True


def _check(pin: Pin, place: Path) -> None:
    """Raises `NotRestorable` where a folder does not hold the pinned version."""
    table = _table(pin, place)
    faults = lacking(table, data_files(table))
    if faults:
        raise NotRestorable(f"the lease {place} is not whole: {faults[0]}")
    if fingerprint(table) != pin.digest:
        raise NotRestorable(f"the lease {place} is not of what was pinned")


def _table(pin: Pin, place: Path) -> "DeltaTable":
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    version = pin.at.get("version", "")
    try:
        return DeltaTable(place, version=int(version) if is_version(version) else None)
    except DeltaError as fault:
        raise NotRestorable(f"the lease {place} cannot be read: {said(fault)}") from fault


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
