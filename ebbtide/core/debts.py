"""What could not be done because its store was away, and is owed until it is paid.

What serves does not need a projection: the gateway reads kept contents, not
aliases. What reads through the view does not need the mark on recalled rows:
the ledger hides them. So an outage of either store holds up no rollback. What a
projection shows is owed in the journal's debts, a mark by the ledger itself.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ebbtide.core.lease import Lease
from ebbtide.core.release import Pin


@dataclass(frozen=True, slots=True)
class Debt:
    """One thing whose projection does not show what the route says."""

    layer: str
    name: str
    saga: str
    """The saga that could not move it."""
    since: float
    why: str


class Debts(Protocol):
    """The part of the journal that keeps debts."""

    def owe(self, lease: Lease, layer: str, name: str, why: str) -> None:
        """The thing's projection is to follow later. Idempotent; the first reason stays."""

    def debts(self, system: str) -> list[Debt]:
        """What is owed, oldest first."""

    def pay(self, system: str, layer: str, name: str, *, epoch: int, by: str) -> None:
        """It shows what the route of that epoch says. Idempotent.

        Raises `Conflict` where the route has moved on, `SagaOpen` where a saga
        is about to: the debt stays.
        """


@runtime_checkable
class Later(Protocol):
    """A layer that can serve without its store, from contents that ebbtide has kept."""

    def kept_problems(self, pin: Pin) -> list[str]:
        """What is wrong with the kept content; empty: it can serve. The store is not asked."""
