"""Rows that a restore leaves behind.

A restored table does not show what was written after the version that it went
back to. Those rows were acknowledged to somebody: they are kept, named and can
be had.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ebbtide.core.release import Pin


@dataclass(frozen=True, slots=True)
class Left:
    """What one table showed before a restore and does not show since."""

    table: str
    version: int
    """The version that was shown before."""
    target: int
    """The version that was gone back to."""
    rows: int
    """In data files that only the former has."""
    rewritten: int = 0
    """In data files that only the target has: so many of `rows` may be in the table too."""
    since: float | None = None
    """When the first of them was committed, in seconds since the epoch."""
    until: float | None = None
    versions: tuple[int, ...] = ()
    """The commits that wrote them, where the log still has them."""
    writers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "versions": list(self.versions), "writers": list(self.writers)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Left":
        lists = {name: tuple(data[name]) for name in ("versions", "writers")}
        return cls(**{**data, **lists})


@runtime_checkable
class Leaving(Protocol):
    """A layer that keeps what its restores leave behind."""

    def left_behind(self, before: Pin, after: Pin) -> Left:
        """What `before` shows and `after` does not. Reads only.

        Raises `NotRestorable` where either version is gone.
        """

    def keep_left(self, before: Pin, after: Pin, saga: str) -> Left:
        """Keep those rows where no vacuum and no log clean-up reaches them. Idempotent."""

    def kept_left(self, name: str, saga: str) -> Left | None:
        """What was kept for a table and a saga; None: nothing.

        Raises `NotRestorable` where it is not whole any more.
        """

    def export_left(self, name: str, saga: str, to: Path) -> int:
        """Write the kept rows to a new Parquet file; how many. Raises `Unknown`, `Refused`."""


@runtime_checkable
class Remembering(Protocol):
    """A layer whose store tells who moved it, so that an undo knows what was ever done."""

    def is_moved(self, name: str, before: Pin | None, saga: str) -> bool:
        """Whether something of the saga's move is left to take back. Reads only.

        False only where that is certain: the saga never moved it from `before`,
        or has moved it back and somebody else has written since.
        """
