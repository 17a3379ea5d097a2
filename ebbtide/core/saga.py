"""The parts of a saga as data: levels, phases, moves, plans, and their records."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from ebbtide import __version__
from ebbtide.core.digests import digest
from ebbtide.core.release import Change, Pin, Release, diff

BUILT_IN = ("model", "features", "data", "config", "prompt", "infra")
"""The layers that rows of the step table know by name."""

OTHERS = "*"
"""As the layer of a row: every layer that is not built in, all of them in one row."""


class Level(StrEnum):
    """How deep a rollback goes; `PROMOTION` is the same table run forwards."""

    MODEL = "model"
    SYSTEM = "system"
    FEATURES = "features"
    DATA = "data"
    PROMOTION = "promotion"
    REFRESH = "refresh"
    """The live pipeline over today's data: forwards too, but nothing else changes."""


ROLLBACKS = (Level.MODEL, Level.SYSTEM, Level.FEATURES, Level.DATA)
"""The levels that go back, from shallow to deep."""
REMADE = frozenset({Level.FEATURES, Level.DATA, Level.REFRESH})
"""The levels whose target may have to be made first: features by their pipeline, models."""


class Phase(StrEnum):
    PREFLIGHT = "preflight"
    PREPARE = "prepare"
    CUT_OVER = "cut over"
    PROVE = "prove"
    SETTLE = "settle"


class SagaState(StrEnum):
    OPEN = "open"
    COMPLETED = "completed"
    """The system is at the target, proved."""
    REFUSED = "refused"
    """A preflight gate was not passed: nothing was touched."""
    TAKEN_BACK = "taken back"
    """The system is at the source."""
    NEEDS_HUMAN = "needs human"
    """A declared halt: the report has the remaining plan."""


@dataclass(frozen=True)
class Move:
    """What every step is told: from where to where, and on whose order."""

    saga: str
    system: str
    level: Level
    source: Release | None
    """None before the first promotion."""
    target: Release
    epoch: int
    """The route's epoch when the saga was opened; 0 before the first promotion."""
    by: str
    reason: str
    accept_unproved: bool = False
    base: Release | None = None
    """At levels `features` and `data`: the release whose other layers the target has."""
    tables: tuple[str, ...] = ()
    """At level `data`: what is restored whatever it shows, for rows came after the release too."""

    @property
    def bad(self) -> Release | None:
        """What a rollback leaves for good: the source, or the base where a safe release served.

        None where the target is that very release, and only its tables had moved on.
        """
        if self.level not in ROLLBACKS:
            return None
        left = self.base or self.source
        return None if left is None or left.id == self.target.id else left

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        return diff(self.source, self.target)

    def changed(self, layer: str) -> tuple[Pin, ...]:
        """The target's pins of a layer that this move brings about.

        What is lineage (a training table) stays where it is: honest appends
        came after the release, and going back must not lose them. Only level
        `data` moves it: there somebody has said that those rows are bad.
        """
        moved = [
            change.after
            for change in self.changes
            if change.layer == layer and change.after and not change.after.lineage
        ]
        if layer != "data":
            return tuple(moved)
        restored = [pin for pin in self.target.pins(layer) if pin.name in self.tables]
        return (*restored, *(pin for pin in moved if pin.name not in self.tables))

    def changed_layers(self, layer: str) -> tuple[str, ...]:
        """The layers that a row of that layer must move: itself, or several for `OTHERS`."""
        differ = {change.layer for change in self.changes} | ({"data"} if self.tables else set())
        meant = differ - set(BUILT_IN) if layer == OTHERS else differ & {layer}
        return tuple(sorted(name for name in meant if self.changed(name)))


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A row as it will run for one move."""

    name: str
    phase: Phase
    layer: str
    does: str
    proves: str
    takes_back: str
    changes: tuple[str, ...] = ()
    seconds: float | None = None
    """Median of recorded runs; None where it never ran."""

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "phase": self.phase.value,
            "changes": list(self.changes),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The very rows that will run, and why they may not. Data without side effects."""

    system: str
    level: Level
    source: str
    target: str
    epoch: int
    steps: tuple[PlannedStep, ...]
    changes: tuple[Change, ...]
    shallowest: Level | None = None
    """The shallowest level that undoes what the source changed; None: it is the first."""
    refusals: tuple[str, ...] = ()
    accept_unproved: bool = False
    """A person has said that a never-proved target may be taken."""
    base: str = ""
    """At levels `features` and `data`: the release whose other layers the target has."""
    safe: str = ""
    """The release that serves while the target is being made; empty: the source goes on."""
    tables: tuple[str, ...] = ()
    """At level `data`: the tables that are restored."""
    code: str = __version__
    """The version of ebbtide that made the plan."""
    recipe: Release | None = None
    """The target as far as it is known, where something of it has yet to be made."""

    def to_json(self) -> dict[str, Any]:
        """Everything in the plan, as the journal keeps it and `--json` prints it."""
        return {
            "digest": self.digest,
            "system": self.system,
            "level": self.level.value,
            "source": self.source,
            "target": self.target,
            "epoch": self.epoch,
            "accept_unproved": self.accept_unproved,
            "base": self.base,
            "safe": self.safe,
            "tables": list(self.tables),
            "code": self.code,
            "recipe": self.recipe.to_json() if self.recipe else None,
            "shallowest": self.shallowest.value if self.shallowest else None,
            "refusals": list(self.refusals),
            "seconds": self.seconds,
            "changes": [change.to_json() for change in self.changes],
            "steps": [step.to_json() for step in self.steps],
        }

    @property
    def digest(self) -> str:
        """What an approval is bound to: estimates and wording left out."""
        return digest(
            {
                "system": self.system,
                "level": self.level,
                "source": self.source,
                "target": self.target,
                "epoch": self.epoch,
                "steps": [step.name for step in self.steps],
                **({"safe": self.safe} if self.safe else {}),
            }
        )

    @property
    def seconds(self) -> float | None:
        """How long it should take, from recorded runs; None where a step never ran."""
        known = [step.seconds for step in self.steps if step.seconds is not None]
        return sum(known) if len(known) == len(self.steps) else None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What the journal knows of one step of a saga. Times: seconds since the epoch."""

    n: int
    name: str
    phase: Phase
    remembered: Any
    intent_at: float
    done_at: float | None = None
    proved_at: float | None = None
    verdict: str = ""
    why: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)
    undo_intent_at: float | None = None
    undone_at: float | None = None
    undo_error: str = ""


@dataclass(frozen=True, slots=True)
class Saga:
    """A saga as the journal has it."""

    id: str
    system: str
    level: Level
    source: str
    target: str
    epoch: int
    """The route's epoch when it was opened."""
    state: SagaState
    plan: Mapping[str, Any]
    plan_digest: str
    by: str
    reason: str
    opened_at: float
    closed_at: float | None = None
    why: str = ""
    left: tuple[str, ...] = ()
    """What remains to be done by a person, or by a recovery."""
