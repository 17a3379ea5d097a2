"""The data layer whole: tables that are restored with their writers held back and nothing lost."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.adapters.delta import fences, left
from ebbtide.adapters.delta.checkpoints import shorten
from ebbtide.adapters.delta.history import Log, folder_of
from ebbtide.adapters.delta.leases import Leases
from ebbtide.adapters.delta.tables import Tables
from ebbtide.adapters.delta.versions import fingerprint
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.dating import Dated
from ebbtide.core.errors import NotRestorable, Unknown
from ebbtide.core.left import Left
from ebbtide.core.release import Pin

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable


class LeasedTables(Tables):
    """`Tables` that also are `Holding`, `Leaving`, `Dating` and `Keeping`.

    What restores leave behind is kept in `folder`, and prepared versions in
    `leases` (None: they are not); on the tables' own file system that takes no
    room, for it is linked.
    """

    def __init__(
        self,
        things: Mapping[str, DataThing],
        at: Callable[[str], Path],
        folder: Path,
        leases: Path | None = None,
    ) -> None:
        super().__init__(things, at)
        self._left = folder
        self._leases = Leases(leases) if leases else None

    def problems(self, pin: Pin) -> list[str]:
        """As `Tables.problems`; files that a lease can give back are not missing."""
        found = super().problems(pin)
        return [] if found and self._can_mend(pin) else found

    def prepare(self, pin: Pin) -> None:
        """Give the table back what its lease has and it lacks; then lease the version."""
        if self._leases is not None:
            table = self._whole(pin)
            with self._reading(pin.name):
                self._leases.keep(pin, table)

    def kept_at(self, pin: Pin) -> Path | None:
        """Where its lease is, or would be."""
        return self._leases.place(pin) if self._leases else None

    def kept_faults(self, pin: Pin) -> list[str]:
        """What is wrong with the lease; nothing where none can be had: see `Leases`."""
        if self._leases is None or pin.name not in self.names:
            return []
        folder = self._location(pin.name)
        if "://" in folder or not self._leases.can(Path(folder)):
            return []
        with self._reading(pin.name):
            return self._leases.faults(pin)

    def lost_outside(self, pin: Pin) -> list[str]:
        """What the table itself lacks of the version."""
        return super().problems(pin) if pin.name in self.names else []

    def drop(self, pin: Pin, needed: Callable[[], bool]) -> bool:
        """Take the lease away; the table itself stays as it is."""
        return self._leases.drop(pin, needed) if self._leases else False

    def hold_writers(self, name: str, system: str, saga: str) -> None:
        """Raise the system's fence in the table's own properties."""
        with self._reading(name):
            fences.hold(self._newest(name), name, system, saga)

    def let_writers_go(self, name: str, system: str) -> None:
        """Take the system's fence down, and keep the log short: nothing waits for it by now."""
        with self._reading(name):
            table = self._newest(name)
            fences.let_go(table, name, system)
            shorten(table, folder_of(table))

    def held_by(self, name: str, system: str) -> str:
        """The saga whose fence of that system is up; empty where none is."""
        with self._reading(name):
            return fences.standing(self._newest(name), system)

    def is_moved(self, name: str, before: Pin | None, saga: str) -> bool:
        """Whether a restore by the saga is left to take back, by the table's own log.

        Where others have written and the saga has not, there is nothing to take
        back, and what they wrote stays.
        """
        if before is None:
            return True
        newest, undo = self._newest(name), f"{saga}/undo"
        with self._reading(name):
            restored = Log(newest).restored_by({saga, undo}, int(before.at["version"]))
            if restored == undo:
                return fingerprint(newest) == before.digest
            return restored != ""

    def left_behind(self, before: Pin, after: Pin) -> Left:
        """What `before` shows and `after` does not. Reads only."""
        with self._reading(before.name):
            return left.found(before.name, self._pinned(before), self._pinned(after))

    def keep_left(self, before: Pin, after: Pin, saga: str) -> Left:
        """Keep those rows in ebbtide's own folder, where no vacuum reaches them. Idempotent."""
        there = self.kept_left(before.name, saga)
        if there is not None:
            return there
        with self._reading(before.name):
            old, new = self._pinned(before), self._pinned(after)
            found = left.found(before.name, old, new)
            left.keep(found, old, new, self._place(before.name, saga))
        return found

    def kept_left(self, name: str, saga: str) -> Left | None:
        """What was kept for a table and a saga; None: nothing."""
        return left.kept(self._place(name, saga))

    def export_left(self, name: str, saga: str, to: Path) -> int:
        """Write the kept rows to a new Parquet file; how many."""
        if self.kept_left(name, saga) is None:
            raise Unknown(
                f"Saga {saga} left no rows of table `{name}` behind.",
                remedy=f"`ebbtide history SYSTEM {saga}` tells what it did.",
            )
        return left.export(self._place(name, saga), to)

    def dated(self, name: str, moment: float) -> Dated:
        """The version that was newest at that moment, by the commits' own times."""
        with self._reading(name):
            return Log(self._newest(name)).dated(name, moment)

    def read(self, pin: Pin, columns: Collection[str] | None = None) -> "pa.Table":
        """As `Tables.read`; from the lease where the table has lost the version."""
        try:
            return super().read(pin, columns)
        except NotRestorable:
            leased = self._leases.open(pin) if self._leases else None
            if leased is None:
                raise
            return self._rows(pin, leased, columns)

    def _can_mend(self, pin: Pin) -> bool:
        """Whether the log still leads to the version and its lease has all of its files."""
        if self._leases is None or self._logged(pin) is None:
            return False
        with self._reading(pin.name):
            return not self._leases.faults(pin)

    def _make_whole(self, pin: Pin) -> None:
        self._whole(pin)

    def _whole(self, pin: Pin) -> "DeltaTable":
        """As `_pinned`, once the table was given back what it lacks and its lease has."""
        try:
            return self._pinned(pin)
        except NotRestorable:
            table = self._logged(pin) if self._leases is not None else None
            if table is None or self._leases is None:
                raise
        with self._reading(pin.name):
            self._leases.give_back(pin, table)
        return self._pinned(pin)

    def _logged(self, pin: Pin) -> "DeltaTable | None":
        """The table at the pinned version, whatever became of its files; None: the log is gone."""
        try:
            table = self._open(pin.name, int(pin.at["version"]))
        except (Unknown, KeyError, ValueError):
            return None
        return table if fingerprint(table) == pin.digest else None

    def _place(self, name: str, saga: str) -> Path:
        self._location(name)  # names only: neither is a path from outside
        if not saga.isalnum():
            raise Unknown(f"`{saga}` is no id of a saga.")
        return self._left / saga / name
