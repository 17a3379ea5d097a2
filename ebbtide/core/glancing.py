"""Contents that are too large to be hashed at every look."""

from typing import Protocol, runtime_checkable

from ebbtide.core.release import Pin


@runtime_checkable
class Glancing(Protocol):
    """A layer that can look at a pin by the names and sizes of its files. Reads no bytes.

    A changed byte in a file of the same size is not seen: `Layer.problems` sees it.
    """

    def glance(self, pin: Pin) -> list[str]:
        """As `Layer.problems`, as far as names and sizes tell."""

    def glance_outside(self, pin: Pin) -> list[str]:
        """As `Keeping.lost_outside`, as far as names and sizes tell."""
