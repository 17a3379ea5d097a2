"""Would a rollback work right now, where to, and how long would it take? Reads only.

Nothing here guesses: what cannot be reached is said to be unknown, and never
counts as fine.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from ebbtide.core import checked_pins, checks
from ebbtide.core.checks import Check, State, said
from ebbtide.core.errors import AlreadyLive, NotChecked, NotReady, Refused, Tampered
from ebbtide.core.journal import Replica
from ebbtide.core.planner import Draft, Order, draft, preflight, serving
from ebbtide.core.ports import World
from ebbtide.core.release import Release
from ebbtide.core.saga import ROLLBACKS, Level
from ebbtide.core.step import Step


class Works(StrEnum):
    """Whether a level would work now."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    NOTHING = "nothing to undo"
    """What the level would put back is live already."""


@dataclass(frozen=True, slots=True)
class Took:
    """How long recorded rollbacks of a level took, in seconds."""

    runs: int
    median: float
    p95: float
    switched: float | None
    """Median until the route was switched."""
    age: float
    """Since the newest of them ended."""


@dataclass(frozen=True, slots=True)
class LevelReadiness:
    level: Level
    works: Works
    target: str = ""
    """The release that the level would go to, where that is known."""
    why: tuple[str, ...] = ()
    took: Took | None = None
    """None: it was never carried out here, so nobody knows."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """One system, as it was found."""

    system: str
    live: str = ""
    epoch: int = 0
    levels: tuple[LevelReadiness, ...] = ()
    checks: tuple[Check, ...] = ()
    not_hashed: tuple[str, ...] = ()
    """The contents of which only names and sizes were looked at."""

    @property
    def exit_code(self) -> int:
        """The worst that was found; 0 where every level works and all is as it should be."""
        answers = {level.works for level in self.levels}
        states = {check.state for check in self.checks}
        if Works.NO in answers:
            return NotReady.exit_code
        if Works.UNKNOWN in answers or State.UNKNOWN in states or not self.levels:
            return NotChecked.exit_code
        return Tampered.exit_code if State.WRONG in states else 0


def examine(
    world: World,
    table: Sequence[Step],
    *,
    levels: Sequence[Level] = ROLLBACKS,
    others: Iterable[Check] = (),
    deep: bool = False,
) -> Readiness:
    """Look at everything that a rollback needs. `others` is what else was looked at.

    What serves, and what a level would go to, is hashed. What else is kept is looked
    at by names and sizes where its layer can, unless `deep`: hashing it takes minutes.
    """
    try:
        world.journal.now()
        route = serving(world)
        live = world.journal.release(route.release, world.system) if route else None
    except Exception as fault:  # noqa: BLE001 - whatever is wrong with it, people must be told
        away = Check("journal", State.UNKNOWN, said(fault), stops=True)
        unknown = tuple(LevelReadiness(level, Works.UNKNOWN, why=(away.why,)) for level in levels)
        return Readiness(world.system, levels=unknown, checks=(away, *others))
    found = [
        checks.of_journal(world),
        checks.of_trail(world),
        *checks.of_sagas(world),
        *checks.of_effects(world),
    ]
    found += [*checks.of_replicas(world, route), *others]
    judged = [_judged(world, table, level, found) for level in levels if _applies(level, live)]
    drafts = [drafted for _, drafted in judged if drafted]
    kept, not_looked = checked_pins.retained_releases(world)
    recorded = [drafted.target for drafted in drafts if not drafted.composed]
    pins = checked_pins.pinned([*kept, *([live] if live else []), *recorded])
    now = checked_pins.pinned([*([live] if live else []), *(drafted.target for drafted in drafts)])
    glanced = frozenset() if deep else checked_pins.glanced_at(world, pins.keys() - now.keys())
    found += [*checked_pins.of_layers(world, live, pins, glanced), checks.of_cache(world, route)]
    found += [*not_looked, *checked_pins.of_leases(world, pins, glanced)]
    return Readiness(
        world.system,
        live.id if live else "",
        route.epoch if route else 0,
        tuple(level for level, _ in judged),
        tuple(found),
        tuple(checked_pins.called(place, pins[place]) for place in pins if place in glanced),
    )


def _applies(level: Level, live: Release | None) -> bool:
    """A system without models has no level `model`; likewise features and data."""
    return level is Level.SYSTEM or live is None or bool(live.pins(level.value))


def _judged(
    world: World, table: Sequence[Step], level: Level, checks: Sequence[Check]
) -> tuple[LevelReadiness, Draft | None]:
    order = Order(level=level, by="ebbtide doctor")
    took = _took(world, level)
    stops = [check for check in checks if check.stops]
    try:
        drafted = draft(world, order, table)
    except AlreadyLive as fault:
        return LevelReadiness(level, Works.NOTHING, why=(fault.message,), took=took), None
    except Exception as fault:  # noqa: BLE001 - whatever it is, nobody knows now
        answer = Works.NO if isinstance(fault, Refused) else Works.UNKNOWN
        return LevelReadiness(level, answer, why=(said(fault),), took=took), None
    why = [check.why for check in stops] + _refused(world.serving.replicas(), drafted.target)
    unknown = [check for check in stops if check.state is State.UNKNOWN]
    try:
        why += preflight(world, drafted, order, table).refusals
        works = Works.UNKNOWN if unknown else Works.NO if why else Works.YES
    except Exception as fault:  # noqa: BLE001 - a gate that breaks has not passed
        why.append(said(fault))
        works = Works.UNKNOWN
    return LevelReadiness(level, works, drafted.target.id, tuple(why), took), drafted


def _refused(replicas: Iterable[Replica], target: Release) -> list[str]:
    return [
        f"Replica {replica.name} could not load {target.short}: {replica.refused[target.id]}"
        for replica in replicas
        if target.id in replica.refused
    ]


def _took(world: World, level: Level) -> Took | None:
    runs = world.journal.runs(world.system, level)
    if not runs:
        return None
    seconds = sorted(run.seconds for run in runs)
    switched = [run.switched for run in runs if run.switched is not None]
    return Took(
        runs=len(runs),
        median=median(seconds),
        p95=seconds[math.ceil(0.95 * len(seconds)) - 1],
        switched=median(switched) if switched else None,
        age=max(0.0, world.journal.now() - runs[0].ended),
    )
