"""What can go wrong, grouped by what the handler does about it.

A docstring is the message where none is given. `exit_code` is what the command
line ends with; docs/reference tells them all.
"""

from inspect import cleandoc
from typing import ClassVar


class EbbtideError(Exception):
    """Something went wrong in ebbtide."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        self.message = message or cleandoc(type(self).__doc__ or "")
        self.remedy = remedy
        super().__init__(f"{self.message} {remedy}".strip())


# Nothing was touched: the order itself is at fault, or the target cannot be had.


class Refused(EbbtideError):
    """Refused before anything was touched."""

    exit_code = 3


class BadConfiguration(Refused):
    """A configuration file cannot be used."""

    exit_code = 2


class Unknown(Refused):
    """No such thing, by the name that was given."""

    exit_code = 2


class FloatingReference(Refused):
    """A floating reference is no pin."""


class AlreadyLive(Refused):
    """The target is the live release already."""


class Quarantined(Refused):
    """The target is quarantined."""


class NeverProved(Refused):
    """The target was never proved good in production."""


class NotRestorable(Refused):
    """Something that the target pins is gone or has changed."""


class Incompatible(Refused):
    """The target's layers do not fit together."""


class PlanChanged(Refused):
    """The plan is not the one that was shown."""


class SagaOpen(Refused):
    """Another saga of this system is open."""

    exit_code = 4


# The world is away for now: try again.


class Unreachable(EbbtideError):
    """A store cannot be reached."""

    exit_code = 5


class Held(EbbtideError):
    """The table's writers are held back while it is restored."""

    exit_code = 11


# The step did not hold: take back.


class GateNotPassed(EbbtideError):
    """A gate was not passed."""


class Conflict(EbbtideError):
    """Somebody else has changed what this step was about to change."""


class UndoConflict(Conflict):
    """Somebody else has changed what this step would take back."""


# This process must stop writing.


class Fenced(EbbtideError):
    """Another process has taken this saga over."""

    exit_code = 6


# Page a person.


class Tampered(EbbtideError):
    """A record of the journal is not what was written."""

    exit_code = 7


class NeedsHuman(EbbtideError):
    """The system stands between two releases; the report has the remaining plan."""

    exit_code = 8


# What `ebbtide doctor` ends with: nothing was touched, nothing raised.


class NotReady(EbbtideError):
    """A rollback would not work right now."""

    exit_code = 9


class NotChecked(EbbtideError):
    """Whether a rollback would work could not be checked."""

    exit_code = 10
