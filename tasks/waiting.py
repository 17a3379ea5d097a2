"""Waiting for the world to get there, by a monotonic clock."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")

_EVERY = 0.01


def until(look: Callable[[], T | None], within: float) -> T | None:
    """Look until there is something to see, for at most `within` seconds; else None."""
    deadline = monotonic() + within
    while (found := look()) is None:
        if monotonic() >= deadline:
            return None
        sleep(_EVERY)
    return found
