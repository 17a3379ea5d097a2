"""Fences: while a saga restores a table, nobody else may write to it.

The journal knows who holds which table back and since when. What makes a fence
real lies in the table itself (`Holding`): a writer reads it in the very version
that it writes on, so none can slip in between a look and a write.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ebbtide.core.lease import Lease


@dataclass(frozen=True, slots=True)
class Fence:
    """One table of a system whose writers are held back."""

    table: str
    saga: str
    """The saga that holds them back."""
    epoch: int
    """Of the lease under which it was raised."""
    since: float
    """Seconds since the epoch, by the journal's clock."""


class Fences(Protocol):
    """The part of the journal that keeps fences, one for each table of a system."""

    def raise_fence(self, lease: Lease, tables: Collection[str]) -> None:
        """Write down that these tables' writers are held back. Idempotent.

        A fence that an ended saga left standing becomes this saga's.
        """

    def lift_fence(self, lease: Lease, tables: Collection[str]) -> None:
        """Let them go. Idempotent; another saga's fence stays."""

    def fences(self, system: str) -> list[Fence]:
        """What is held back now, by table."""


@runtime_checkable
class Holding(Protocol):
    """A layer whose tables carry a mark that holds writers back.

    The mark is each system's own: two systems that share a table do not lift
    each other's. Every method may raise `Unreachable`.
    """

    def hold_writers(self, name: str, system: str, saga: str) -> None:
        """Raise the mark. Idempotent. What was being written meanwhile is rejected."""

    def let_writers_go(self, name: str, system: str) -> None:
        """Take the mark down. Idempotent."""

    def held_by(self, name: str, system: str) -> str:
        """The saga whose mark is up; empty where none is."""
