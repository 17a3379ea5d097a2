"""What an observer of a saga is told. Observers never steer it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ebbtide.core.gates import Finding
from ebbtide.core.saga import Phase, Saga

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SagaOpened:
    saga: Saga


@dataclass(frozen=True, slots=True)
class StepBegan:
    n: int
    name: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class Progress:
    """A step that takes long says how far it is."""

    line: str


@dataclass(frozen=True, slots=True)
class StepProved:
    n: int
    name: str
    phase: Phase
    finding: Finding
    seconds: float


@dataclass(frozen=True, slots=True)
class StepTakenBack:
    n: int
    name: str
    error: str
    """Empty where it was taken back."""


@dataclass(frozen=True, slots=True)
class SagaClosed:
    saga: Saga


Event = SagaOpened | StepBegan | Progress | StepProved | StepTakenBack | SagaClosed
Observer = Callable[[Event], None]


def unobserved(_event: Event) -> None:
    """Nobody watches."""


def shielded(observer: Observer) -> Observer:
    """An observer whose own faults are logged and go no further."""

    def tell(event: Event) -> None:
        try:
            observer(event)
        except Exception:
            _log.exception("an observer failed at %s", type(event).__name__)

    return tell
