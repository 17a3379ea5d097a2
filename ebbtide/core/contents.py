"""What the gates on data and features need to know of what these hold."""

from typing import Protocol

from ebbtide.core.gates import Finding
from ebbtide.core.release import Pin


class Contents(Protocol):
    """Looks into what pins hold. Touches nothing live, and fails closed.

    Whatever keeps it from looking is a finding that is not passed; nothing raises.
    """

    def examine_table(self, pin: Pin) -> Finding:
        """Whether a table, at exactly the pinned version, meets the suite of expectations
        that the system file names for it; passed, saying so, where it names none."""

    def examine_features(self, pin: Pin) -> Finding:
        """The same of features that are kept."""

    def compare_features(self, pin: Pin, before: Pin) -> Finding:
        """Whether features are distributed as others, of the same pipeline."""

    def fresh_within(self, name: str) -> float | None:
        """The age in seconds up to which a feature set may go live; None: any."""
