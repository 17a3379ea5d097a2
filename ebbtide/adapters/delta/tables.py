"""The data layer: Delta tables, pinned by version and fingerprint.

A restore is a new commit on top of the old ones, so no version is ever lost by
moving, and moving back is a restore too. delta-rs never rebases a restore:
whoever commits between the look and the restore makes it fail, so a move is a
compare-and-set on the table's version.

Limit: a data file counts as there when its size is right; its bytes are not
read, for a writer of Delta never changes a file that it has committed.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import random
from time import sleep
from typing import TYPE_CHECKING

from ebbtide.adapters.delta.history import others_since
from ebbtide.adapters.delta.versions import (
    called,
    data_files,
    fingerprint,
    is_away,
    is_version,
    lacking,
    log_entry,
    log_mark,
    make_durable,
    newest_in,
    options,
    refuse_away,
    restore,
    return_properties,
    rows,
    said,
)
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.crashpoints import reach
from ebbtide.core.digests import digest
from ebbtide.core.errors import (
    Conflict,
    FloatingReference,
    NotRestorable,
    Refused,
    Unknown,
    Unreachable,
)
from ebbtide.core.fencing import still_ours
from ebbtide.core.release import Pin

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

_ATTEMPTS = 5
"""Lost races without a change of content before a move gives up."""
_PAUSE = 0.01
"""Seconds after the first of them; each further pause is about twice as long."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A version that was looked at and found whole."""

    pin: Pin
    entry: tuple[int, ...]
    """Its commit's file."""
    files: Mapping[str, int]
    """Size in bytes of its data files, by their paths."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A version that was opened, with its log as it was just before."""

    version: int
    mark: Mapping[str, tuple[int, ...]]
    table: "DeltaTable"


class Tables:
    """The `Layer` of Delta tables, local or in an object store.

    `at` makes a path of the system file absolute. Credentials of object stores
    come from the environment (`AWS_*`, `AZURE_*`, `GOOGLE_*`).
    """

    def __init__(self, things: Mapping[str, DataThing], at: Callable[[str], Path]) -> None:
        self._things = dict(things)
        self._at = at
        self._seen: dict[str, _Seen] = {}
        """By table, what was seen whole last."""
        self._opened: dict[str, _Opened] = {}
        """By table, the version that was opened last by its number. Read only."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._things)

    def pin(self, name: str, ask: str = "") -> Pin:
        """The pin of a version number; empty: of the version that is newest now."""
        return self._describe(name, self._version(name, ask) if ask else self._newest(name))

    def problems(self, pin: Pin) -> list[str]:
        """Why the version could not be restored now: its log, its files, its fingerprint."""
        try:
            self._pinned(pin)
        except (NotRestorable, Unknown) as fault:
            return fault.message.splitlines()
        return []

    def prepare(self, pin: Pin) -> None:
        """Nothing to make ready: a Delta table holds its versions itself."""

    def live(self, name: str) -> Pin | None:
        """What readers of the table see now; None where no table is there."""
        table = self._open(name) if self._is_there(name) else None
        return self._describe(name, table) if table else None

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        """Restore the version that `to` pins, unless the table has its content already.

        Contents are compared by fingerprint: a restored version has a new
        number. Also finishes a restore that was cut off before it was durable
        and had its table properties back.
        """
        if to is None:
            self._refuse_to_drop(name)
            return
        with self._reading(name):
            for attempt in range(_ATTEMPTS):
                if self._moved(name, to, {pin.digest for pin in only_from if pin}, note):
                    return
                sleep(_PAUSE * 2**attempt * (0.5 + random()))  # noqa: S311 - no secret
            who = others_since(self._newest(name))
        raise Conflict(
            f"Table `{name}` was committed to by others {_ATTEMPTS} times in a row. {who}".strip(),
            remedy="Stop its writers and try again.",
        )

    def path(self, pin: Pin) -> str:
        """Where the pin's table lies: an absolute path, or the URI as it was written."""
        return self._location(pin.name)

    def read(self, pin: Pin, columns: Collection[str] | None = None) -> "pa.Table":
        """The rows of exactly that version, by time travel. Raises `NotRestorable`.

        Only `columns`, as far as that version has them; None: all.

        Reads through `scan()`: `to_pyarrow_table()` followed by the end of the
        process aborts the interpreter about every second time (deltalake 1.6.6).
        """
        return self._rows(pin, self._pinned(pin), columns)

    def _rows(self, pin: Pin, table: "DeltaTable", columns: Collection[str] | None) -> "pa.Table":
        import pyarrow as pa

        schema = pa.schema(table.schema().to_arrow())
        if columns is not None:
            schema = pa.schema([field for field in schema if field.name in columns])
        with self._reading(pin.name):
            try:
                found = pa.RecordBatchReader.from_stream(table.scan(schema.names)).read_all()
            except pa.ArrowException as fault:
                refuse_away(fault)
                raise NotRestorable(f"{called(pin)} cannot be read: {said(fault)}") from fault
            return found.cast(schema)

    def _moved(self, name: str, to: Pin, allowed: set[str], note: str) -> bool:
        """One attempt at a move; False where somebody else committed first."""
        table = self._newest(name)
        shown = fingerprint(table)
        if shown != to.digest:
            self._allow(name, table, shown, allowed)
            if not self._is_still_whole(to, table):
                self._make_whole(to)
            still_ours()
            reach("tables.move/about-to-restore")
            if not restore(table, to, note):
                return False
            reach("tables.move/restored")
        if not self._finished(name, table, note):
            return False
        table.update_incremental()
        self._allow(name, table, fingerprint(table), {to.digest})
        return True

    def _is_still_whole(self, pin: Pin, table: "DeltaTable") -> bool:
        """Whether the version can be restored, as preflight saw it: the same log entry and files.

        A version never changes, and opening it again takes as long as the restore.
        """
        seen = self._seen.get(pin.name)
        if seen is None or seen.pin != pin:
            return False
        entry = log_entry(table, int(pin.at["version"]))
        return entry == seen.entry and not lacking(table, seen.files)

    def _make_whole(self, pin: Pin) -> None:
        """See that the version can be restored, just before it is. Raises `NotRestorable`."""
        self._pinned(pin)

    def _pinned(self, pin: Pin) -> "DeltaTable":
        """The table at the pinned version, with all of its files. Raises `NotRestorable`."""
        version = pin.at.get("version", "")
        if not is_version(version):
            raise NotRestorable(f"The pin of table `{pin.name}` names no version: {version!r}.")
        try:
            table = self._as_of(pin.name, int(version))
        except Unknown as fault:
            self._newest(pin.name)  # says it better where there is no table at all
            raise NotRestorable(
                f"{called(pin)} is gone from the table's log: it was cleaned up, or the table "
                "was made anew.",
                remedy="Choose a release whose tables are kept; keep `delta.logRetentionDuration` "
                "longer than releases are retained.",
            ) from fault
        self._check(pin, table)
        return table

    def _check(self, pin: Pin, table: "DeltaTable") -> None:
        with self._reading(pin.name):
            files = data_files(table)
            faults = lacking(table, files)
            if faults:
                raise NotRestorable(
                    "\n".join(f"{called(pin)}: {fault}" for fault in faults),
                    remedy="Put the files back from a backup, or choose a release whose tables "
                    "are kept. `vacuum(keep_versions=[...])` spares pinned versions.",
                )
            found = fingerprint(table)
            if found != pin.digest:
                raise NotRestorable(
                    f"{called(pin)} is not what was pinned: its fingerprint is "
                    f"{found[:10]}, not {pin.digest[:10]}.",
                    remedy="The table was made anew or its log was edited.",
                )
            entry = log_entry(table, table.version())
            if entry is not None:
                self._seen[pin.name] = _Seen(pin, entry, files)

    def _describe(self, name: str, table: "DeltaTable") -> Pin:
        thing = self._things[name]
        with self._reading(name):
            at = {
                "version": str(table.version()),
                "role": thing.role,
                "path": thing.path,
                "rows": str(rows(table)),
                "schema": digest(json.loads(table.schema().to_json())),
            }
            return Pin(name, fingerprint(table), at)

    def _version(self, name: str, ask: str) -> "DeltaTable":
        if is_version(ask) and "://" not in self._location(name):
            try:
                return self._as_of(name, int(ask))
            except Unknown:
                pass  # what is newest says it better
        newest = self._newest(name)
        if not is_version(ask):
            raise FloatingReference(
                f"`{ask}` is no version of table `{name}`: only a version number is a pin.",
                remedy=f"The newest version is {newest.version()}. A date is never resolved: "
                "Delta goes by file times, which a copy or a touch changes.",
            )
        if int(ask) > newest.version():
            raise Unknown(
                f"Table `{name}` has no version {ask}.",
                remedy=f"The newest version is {newest.version()}.",
            )
        return self._open(name, int(ask))

    def _as_of(self, name: str, version: int) -> "DeltaTable":
        """The table at a version, to read from.

        A version never changes, and preflight looks at the same one several times: it
        is opened again only where a file of the log has come, gone or changed since.
        """
        location = self._location(name)
        mark = log_mark(location)
        if "://" not in location and version > newest_in(mark):
            # delta-rs looks for every version up to it, one by one, also where there is no table.
            raise Unknown(f"Table `{name}` has no version {version}.")
        known = self._opened.get(name)
        if mark and known is not None and (known.version, known.mark) == (version, mark):
            return known.table
        table = self._open(name, version)
        if mark:
            self._opened[name] = _Opened(version, mark, table)
        return table

    def _newest(self, name: str) -> "DeltaTable":
        if not self._is_there(name):
            raise Unknown(
                f"{self._location(name)} holds no Delta table (table `{name}`).",
                remedy="Correct `path` in the system file, or make the table first.",
            )
        return self._open(name)

    def _is_there(self, name: str) -> bool:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        location = self._location(name)
        if Path(location).is_file():
            return False
        with self._reading(name):
            try:
                return bool(DeltaTable.is_deltatable(location, options(location)))
            except DeltaError as fault:
                refuse_away(fault)
                raise Unknown(f"Table `{name}` at {location}: {said(fault)}") from fault

    def _open(self, name: str, version: int | None = None) -> "DeltaTable":
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        location = self._location(name)
        which = "" if version is None else f" at version {version}"
        with self._reading(name):
            try:
                return DeltaTable(location, version=version, storage_options=options(location))
            except DeltaError as fault:
                refuse_away(fault)
                raise Unknown(f"Table `{name}` cannot be read{which}: {said(fault)}") from fault

    def _location(self, name: str) -> str:
        if name not in self._things:
            known = ", ".join(self._things) or "none"
            raise Unknown(f"No table `{name}` in the system file.", remedy=f"There are: {known}.")
        path = self._things[name].path
        return path if "://" in path else str(self._at(path))

    def _refuse_to_drop(self, name: str) -> None:
        if self._is_there(name):
            raise Refused(
                f"Table `{name}` is there and would be taken away: a table is never dropped.",
                remedy="Drop it by hand where that is really meant.",
            )

    def _allow(self, name: str, table: "DeltaTable", shown: str, allowed: set[str]) -> None:
        if shown not in allowed:
            raise Conflict(
                f"Table `{name}` was changed by somebody else: version {table.version()} "
                f"({shown[:10]}) is not what this move starts from. {others_since(table)}".strip(),
                remedy="Stop its writers, look at its history, and plan again.",
            )

    def _finished(self, name: str, table: "DeltaTable", note: str) -> bool:
        """Give the table its properties back and make its log durable; False: lost a race."""
        if not return_properties(table, note):
            return False
        location = self._location(name)
        if "://" not in location:
            make_durable(Path(location) / "_delta_log")
        return True

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Let a store that is away be `Unreachable`, whatever was asked of it."""
        from deltalake.exceptions import DeltaError

        try:
            yield
        except (OSError, DeltaError) as fault:
            if not is_away(fault):
                raise
            raise Unreachable(
                f"Table `{name}` at {self._location(name)} cannot be reached: {said(fault)}",
                remedy="Try again once its store is back, or correct its address or credentials.",
            ) from fault
