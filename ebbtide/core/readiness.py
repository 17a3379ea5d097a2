"""Would a rollback work right now, where to, and how long would it take? Reads only.

Nothing here guesses: what cannot be reached is said to be unknown, and never
counts as fine.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from statistics import median

from ebbtide.core.effects import Effect
from ebbtide.core.errors import (
    AlreadyLive,
    EbbtideError,
    NotChecked,
    NotReady,
    Refused,
    Tampered,
    Unreachable,
)
from ebbtide.core.giving_up import (
    facts_of,
)
from ebbtide.core.glancing import Glancing
from ebbtide.core.journal import Replica, Route
from ebbtide.core.journal_age import signs
from ebbtide.core.paying import owed
from ebbtide.core.planner import Draft, Order, draft, preflight, serving
from ebbtide.core.ports import Layer, World
from ebbtide.core.release import Pin, Release
from ebbtide.core.retention import (
    Keeping,
    retained,
)
from ebbtide.core.saga import ROLLBACKS, Level, SagaState
from ebbtide.core.step import Step
from ebbtide.core.waiting_effects import gave_up, let_go_by, queued, retried_by

_NAMED = 5
"""Effects that a sentence names at most."""

Place = tuple[str, Pin]
"""A pin, and the layer that it is of."""


class State(StrEnum):
    """How one thing was found."""

    FINE = "fine"
    WITHOUT = "away"
    """Away, and a rollback goes without it."""
    PERSON = "for a person"
    """A person has to see to it, and no rollback depends on that."""
    WRONG = "wrong"
    UNKNOWN = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and why it is not fine."""

    what: str
    state: State
    why: str = ""
    stops: bool = False
    """No level works while it is so."""


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
        away = Check("journal", State.UNKNOWN, _said(fault), stops=True)
        unknown = tuple(LevelReadiness(level, Works.UNKNOWN, why=(away.why,)) for level in levels)
        return Readiness(world.system, levels=unknown, checks=(away, *others))
    checks = [_journal(world), _trail(world), *_sagas(world), *_effects(world)]
    checks += [*_replicas(world, route), *others]
    judged = [_judged(world, table, level, checks) for level in levels if _applies(level, live)]
    drafts = [drafted for _, drafted in judged if drafted]
    kept, not_looked = _retained(world)
    recorded = [drafted.target for drafted in drafts if not drafted.composed]
    pins = _pins([*kept, *([live] if live else []), *recorded])
    now = _pins([*([live] if live else []), *(drafted.target for drafted in drafts)])
    glanced = frozenset() if deep else _glanced(world, pins.keys() - now.keys())
    checks += [*_layers(world, live, pins, glanced), _cache(world, route)]
    checks += [*not_looked, *_leases(world, pins, glanced)]
    return Readiness(
        world.system,
        live.id if live else "",
        route.epoch if route else 0,
        tuple(level for level, _ in judged),
        tuple(checks),
        tuple(_called(place, pins[place]) for place in pins if place in glanced),
    )


def looked(what: str, look: Callable[[], Iterable[str]], *, stops: bool = False) -> Check:
    """A check of a function that says what is wrong. What it raises is not fine either."""
    try:
        wrong = list(look())
    except EbbtideError as fault:
        state = State.UNKNOWN if isinstance(fault, Unreachable) else State.WRONG
        return Check(what, state, _said(fault), stops)
    except Exception as fault:  # noqa: BLE001 - a check that breaks has not found it fine
        return Check(what, State.UNKNOWN, _said(fault), stops)
    return Check(what, State.WRONG if wrong else State.FINE, " ".join(wrong), stops and bool(wrong))


# Levels


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
        return LevelReadiness(level, answer, why=(_said(fault),), took=took), None
    why = [check.why for check in stops] + _refused(world.serving.replicas(), drafted.target)
    unknown = [check for check in stops if check.state is State.UNKNOWN]
    try:
        why += preflight(world, drafted, order, table).refusals
        works = Works.UNKNOWN if unknown else Works.NO if why else Works.YES
    except Exception as fault:  # noqa: BLE001 - a gate that breaks has not passed
        why.append(_said(fault))
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


# What a rollback needs


def _trail(world: World) -> Check:
    """Whether the journal says what was written, and all of it."""

    def look() -> Iterator[str]:
        yield from world.journal.verify()
        yield from signs(world)

    return looked("audit trail", look, stops=True)


def _journal(world: World) -> Check:
    def look() -> Iterator[str]:
        world.journal.try_write()
        yield from ()

    check = looked("journal", look)
    # It was read a moment ago: who cannot write it cannot roll back.
    return check if check.state is State.FINE else Check(check.what, State.WRONG, check.why, True)


def _sagas(world: World) -> Iterator[Check]:
    for line in owed(world):
        yield Check("owed", State.WRONG, f"{line}. Then: ebbtide recover {world.system}.")
    newest = world.journal.sagas(world.system, limit=1)
    for saga in newest:
        if saga.state is SagaState.OPEN:
            why = f"Saga {saga.id} is open, ordered by {saga.by}: another would be refused."
            if world.journal.abandoned(world.system):
                why += f" Its process has died: ebbtide recover {world.system}."
            yield Check("open saga", State.WRONG, why, stops=True)


def _effects(world: World) -> Iterator[Check]:
    """Neither keeps a rollback from working: what failed may have to stay so."""
    held = world.journal.effects_held(world.system)
    if held is not None:
        why = f"Saga {held.saga} holds {_listed(queued(world))}. Then: {let_go_by(world, held)}."
        yield Check("effects held", State.WRONG, why)
    failed = gave_up(world)
    if failed:
        why = f"Given up: {_listed(failed)}. Once the cause is mended: {retried_by(failed[0])}."
        if len(failed) > 1:
            why += f" All of them: ebbtide effects {world.system} --state failed."
        yield Check("effects failed", State.PERSON, why)


def _listed(effects: Sequence[Effect]) -> str:
    named = ", ".join(effect.key for effect in effects[:_NAMED]) or "nothing that is queued"
    return f"{named} and {len(effects) - _NAMED} more" if len(effects) > _NAMED else named


def _replicas(world: World, route: Route | None) -> Iterator[Check]:
    replicas, needed = world.serving.replicas(), world.policy.replicas
    if len(replicas) < needed:
        why = f"{needed} live replicas are needed; there are {len(replicas)}."
        yield Check("replicas", State.WRONG, why, stops=True)
    for replica in replicas:
        wrong = route is not None and (replica.release, replica.epoch) != (
            route.release,
            route.epoch,
        )
        why = f"It serves {replica.release[:12] or 'nothing'} in epoch {replica.epoch}."
        yield Check(
            f"replica {replica.name}", State.WRONG if wrong else State.FINE, why if wrong else ""
        )


def _retained(world: World) -> tuple[list[Release], list[Check]]:
    """The releases that ebbtide has promised to keep."""
    try:
        kept = retained(world.policy.retention, facts_of(world))
        return [world.journal.release(each, world.system) for each in kept], []
    except Exception as fault:  # noqa: BLE001 - whatever keeps it from looking
        return [], [Check("retained releases", State.UNKNOWN, _said(fault))]


def _pins(releases: Iterable[Release]) -> Mapping[Place, str]:
    """What releases pin, with a release that does: the last of them, for people."""
    return {
        (layer, pin): release.short
        for release in releases
        for layer, pins in release.layers.items()
        for pin in pins
    }


def _glanced(world: World, places: Iterable[Place]) -> frozenset[Place]:
    return frozenset(place for place in places if isinstance(world.layers.get(place[0]), Glancing))


def _called(place: Place, release: str) -> str:
    layer, pin = place
    return f"{layer} {pin.name} {pin} of {release}"


def _leases(world: World, pins: Mapping[Place, str], glanced: Collection[Place]) -> Iterator[Check]:
    """What somebody has broken outside ebbtide, though the content can still be had."""
    for place, release in pins.items():
        adapter = world.layers.get(place[0])
        if isinstance(adapter, Keeping):
            at_a_glance = isinstance(adapter, Glancing) and place in glanced
            lost = adapter.glance_outside if at_a_glance else adapter.lost_outside
            yield looked(f"lease of {_called(place, release)}", _lease(adapter, lost, place[1]))


def _lease(
    adapter: Keeping, outside: Callable[[Pin], list[str]], pin: Pin
) -> Callable[[], list[str]]:
    def look() -> list[str]:
        missing, lost = adapter.kept_faults(pin), outside(pin)
        if lost and not missing and adapter.kept_at(pin) is not None:
            lost = [*lost, "What ebbtide keeps is the last copy."]
        return [*missing, *lost]

    return look


def _layers(
    world: World, live: Release | None, pins: Mapping[Place, str], glanced: Collection[Place]
) -> Iterator[Check]:
    for name, adapter in world.layers.items():
        for place, release in pins.items():
            if place[0] == name:
                yield looked(_called(place, release), _look(adapter, place, glanced))
    for layer, there in live.layers.items() if live else ():
        for pin in there:
            if not pin.lineage:
                yield looked(f"{layer} {pin.name} follows the route", _shown(world, layer, pin))


def _look(adapter: Layer, place: Place, glanced: Collection[Place]) -> Callable[[], list[str]]:
    if place in glanced and isinstance(adapter, Glancing):
        return partial(adapter.glance, place[1])
    return partial(adapter.problems, place[1])


def _shown(world: World, layer: str, pin: Pin) -> Callable[[], list[str]]:
    def look() -> list[str]:
        if layer not in world.layers:
            return ["Its layer has no adapter here."]
        shows = world.layers[layer].live(pin.name)
        if shows is not None and shows.digest == pin.digest:
            return []
        return [f"It shows {shows or 'nothing'}; the live release pins {pin}."]

    return look


def _cache(world: World, route: Route | None) -> Check:
    try:
        token = world.cache.epoch()
    except Unreachable as fault:
        return Check("cache", State.WITHOUT, f"{fault.message} A rollback goes without it.")
    except Exception as fault:  # noqa: BLE001 - whatever a cache raises
        return Check("cache", State.UNKNOWN, _said(fault))
    if route is not None and token != route.token:
        return Check("cache", State.WRONG, f"Its epoch is {token or 'none'}, not {route.token}.")
    return Check("cache", State.FINE)


def _said(fault: Exception) -> str:
    return str(fault) if isinstance(fault, EbbtideError) else f"{type(fault).__name__}: {fault}"
