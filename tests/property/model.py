"""The reference model: which release should be live, what is denied, and what has halted.

It knows a few sentences of the documentation and nothing of the engine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Saga, SagaState


@dataclass
class Model:
    """What a person would expect of the system by now."""

    live: str = ""
    """The release that serves."""
    denied: set[str] = field(default_factory=set)
    proved: set[str] = field(default_factory=set)
    halted: str = ""
    """The newest saga, where it needs a person."""
    seen: dict[str, SagaState] = field(default_factory=dict)
    """Each saga that has ended, and how."""

    def refuses(self, level: Level, target: Release, *, accept_unproved: bool) -> bool:
        """Whether an order straight to a release must be refused before anything is touched."""
        pins = {pin.digest for pins in target.layers.values() for pin in pins}
        unproved = level is Level.SYSTEM and not accept_unproved and target.id not in self.proved
        return target.id == self.live or bool(self.denied & {target.id, *pins}) or unproved

    def ended(self, saga: Saga, release: Callable[[str], Release]) -> list[str]:
        """Take in how a saga ended; what of it is not as expected."""
        wrong = []
        resumed = saga.id in self.seen
        if not resumed and saga.source != self.live:
            wrong.append(f"saga {saga.id} began at {saga.source[:12]}, not at {self.live[:12]}")
        self.seen[saga.id] = saga.state
        self.live = self._live(saga)
        self.halted = saga.id if saga.state is SagaState.NEEDS_HUMAN else ""
        left = " ".join(saga.left)
        forwards = self.halted and "take back" not in left
        if (saga.state is SagaState.COMPLETED or forwards) and "route.keep" not in left:
            self.proved.add(saga.target)
        if (saga.state is SagaState.COMPLETED or forwards) and "quarantine.deny" not in left:
            self.denied |= _left_for_good(saga, release)
        return wrong

    def _live(self, saga: Saga) -> str:
        if saga.state is SagaState.COMPLETED:
            return saga.target
        if saga.state is not SagaState.NEEDS_HUMAN:
            return saga.source
        forwards = not any(line.startswith("take back") for line in saga.left)
        stuck = any(line.startswith("take back route.switch") for line in saga.left)
        return saga.target if forwards or stuck else saga.source


def _left_for_good(saga: Saga, release: Callable[[str], Release]) -> set[str]:
    """A rollback denies what it leaves; at level `model` the model itself as well."""
    if saga.level not in {Level.MODEL, Level.SYSTEM, Level.FEATURES, Level.DATA}:
        return set()
    bad = saga.plan["base"] or saga.source
    if bad == saga.target:
        return set()
    denied = {bad}
    if saga.level is Level.MODEL:
        before, after = _models(release(saga.source)), _models(release(saga.target))
        denied |= {digest for name, digest in before.items() if after.get(name) != digest}
    return denied


def _models(release: Release) -> Mapping[str, str]:
    return {pin.name: pin.digest for pin in release.pins("model")}
