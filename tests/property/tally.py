"""What has happened, and what did not hold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


class Broken(AssertionError):
    """An invariant does not hold, or the model is not met."""

    def __init__(self, found: dict[str, list[str]], log: Sequence[str]) -> None:
        self.found = found
        lines = [f"{name}: {line}" for name, lines in found.items() for line in lines]
        super().__init__("\n".join([*lines, "after:", *log]))


@dataclass
class Tally:
    """What has happened."""

    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Sagas by level and end."""
    refused: Counter[str] = field(default_factory=Counter)
    """Orders that never became a saga, by error."""
    deaths: int = 0
    zombies: int = 0
    """Processes that woke after their saga was taken over."""
    rivals: int = 0
    """Orders that came while another saga was under way."""
