"""Who served when."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tenure:
    """A time in which one release served."""

    release: str
    epoch: int
    saga: str
    since: float
    until: float | None
    proved: bool
    """The saga that put it there was proved."""
