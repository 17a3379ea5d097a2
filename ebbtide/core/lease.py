"""The right of one process to write for one saga."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for a saga, until another process takes it over."""

    saga: str
    system: str
    holder: str
    epoch: int
