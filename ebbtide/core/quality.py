"""How good a model is by its own training's measure, so that a new one can be compared."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ebbtide.core.gates import Finding, failed, inconclusive, passed
from ebbtide.core.release import Pin


@dataclass(frozen=True, slots=True)
class Quality:
    """One figure that was recorded when a model was trained."""

    metric: str
    value: float | None
    """None: none was recorded."""
    better: Literal["lower", "higher"] = "lower"
    worse_by: float = 0.05
    """How much worse another may be, as a share of this value."""

    def __str__(self) -> str:
        return f"{self.metric} {'unknown' if self.value is None else f'{self.value:.6g}'}"


@runtime_checkable
class Measured(Protocol):
    """A layer whose contents were measured when they were made."""

    def quality(self, pin: Pin) -> Quality | None:
        """What was measured; None where the system file names no measure. Reads only."""


def as_good(name: str, new: Quality | None, known: Quality | None) -> Finding:
    """Whether a model is not worse than a known one by more than the known one allows.

    A figure that is missing proves nothing, and one that is no number is not passed.
    """
    if new is None or new.value is None:
        return inconclusive(
            f"Nothing says how good model {name} is.",
            remedy="Name `train.metric` in the system file, and let the stage's result have it.",
        )
    if not math.isfinite(new.value):
        return failed(f"Model {name}: its {new.metric} is {new.value}.")
    if known is None or known.value is None or not math.isfinite(known.value):
        return inconclusive(
            f"Model {name} has {new}; nothing is recorded to compare it with.",
            remedy="Record `train.metric` with a release that was proved.",
        )
    worse = new.value - known.value if new.better == "lower" else known.value - new.value
    if worse > known.worse_by * abs(known.value):
        return failed(
            f"Model {name} has {new}, worse than {known.value:.6g} by more than the "
            f"{known.worse_by:.1%} that is allowed.",
            value=new.value,
            known=known.value,
        )
    why = f"model {name} has {new}, against {known.value:.6g}"
    return passed(why, value=new.value, known=known.value)
