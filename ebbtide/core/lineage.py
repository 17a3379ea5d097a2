"""What a released content was made of, kept where it can be found again by that."""

from typing import Protocol, runtime_checkable

from ebbtide.core.release import Pin, Release


@runtime_checkable
class Descended(Protocol):
    """A layer that remembers what its contents were made of."""

    def tag_lineage(self, pin: Pin, within: Release) -> str:
        """Remember it of a pin, as far as it can be proved; why it cannot, or nothing. Idempotent.

        Nothing is ever guessed: what is not remembered is made again when it is wanted.
        """
