"""What must hold of a system, whatever died and whenever: asked of its journal and its layers.

Ask when no saga is under way, after recovery. The checks read what is stored,
not what the engine says of it.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ebbtide.core.errors import EbbtideError
from ebbtide.core.fences import Holding
from ebbtide.core.gates import Verdict
from ebbtide.core.journal import AuditEntry
from ebbtide.core.ports import World
from ebbtide.core.recovery import ATTEMPTS
from ebbtide.core.release import Release
from ebbtide.core.saga import BUILT_IN, OTHERS, Level, Phase, Saga, SagaState, StepRecord

LAWS = {
    "I2": "it ends at the source, at the target, or in a declared halt",
    "I3": "a saga moves the route at most once there and once back",
    "I4": "the trail has no gap; every effect has its intent and its outcome",
    "I5": "nothing that was recorded is lost",
    "I6": "epochs strictly increase",
    "I7": "nothing begins before its gates have passed, or after a take-back has begun",
    "I8": "no more attempts than are allowed",
}
"""I1 (no mixed answers) and I9 (availability) need somebody who asks while it runs."""

_ALL = 10**9
_BACK = "take back "


@dataclass(frozen=True)
class Seen:
    """What a system had at one time, to be compared with what it has later."""

    epoch: int
    entries: Mapping[int, str]
    """Digests of the audit entries by number."""
    sagas: frozenset[str]
    whole: frozenset[str]
    """Releases whose every content was there."""


def seen(world: World) -> Seen:
    """Look at what must not get lost. Contents of a store that is away are not looked at."""
    route = world.journal.route(world.system)
    given_up = world.journal.given_up(world.system)
    whole = {
        release.id
        for release, _ in world.journal.releases(world.system)
        if release.id not in given_up and not _lost(world, release)
    }
    return Seen(
        route.epoch if route else 0,
        {entry.n: entry.digest for entry in world.journal.audit("", _ALL)},
        frozenset(saga.id for saga in world.journal.sagas(world.system, _ALL)),
        frozenset(whole),
    )


def broken(
    world: World,
    before: Seen | None = None,
    besides: Collection[tuple[str, str]] = (),
) -> dict[str, list[str]]:
    """Which invariants do not hold, each with why; empty: all hold.

    `before`: what was seen earlier. `besides`: layers and things that somebody
    has moved past ebbtide, so that what they show tells nothing.
    """
    history = _History.of(world)
    found = {
        "I2": [*_end(world, history, besides), *_still_held(world, history)],
        "I3": list(_moves_of_the_route(history)),
        "I4": [*world.journal.verify(), *_outcomes(history)],
        "I5": list(_losses(world, before)) if before else [],
        "I6": list(_epochs(world, history, before)),
        "I7": list(_out_of_turn(history)),
        "I8": list(_too_often(history)),
    }
    return {name: lines for name, lines in found.items() if lines}


@dataclass(frozen=True)
class _History:
    """A system's sagas, newest first, their steps, and what the trail tells of each."""

    sagas: list[Saga]
    steps: Mapping[str, list[StepRecord]]
    told: Mapping[str, list[AuditEntry]]
    """By saga, oldest first."""
    moves: list[AuditEntry] = field(default_factory=list)
    """Of the route, oldest first."""

    @classmethod
    def of(cls, world: World) -> "_History":
        sagas = world.journal.sagas(world.system, _ALL)
        told: dict[str, list[AuditEntry]] = defaultdict(list)
        moves = []
        for entry in reversed(world.journal.audit(world.system, _ALL)):
            told[entry.saga].append(entry)
            if entry.what in {"route switched", "route returned"}:
                moves.append(entry)
        return cls(sagas, {saga.id: world.journal.steps(saga.id) for saga in sagas}, told, moves)


def _end(world: World, history: _History, besides: Collection[tuple[str, str]]) -> Iterator[str]:
    if not history.sagas:
        return
    saga = history.sagas[0]
    if saga.state is SagaState.OPEN:
        yield f"saga {saga.id} has not ended"
        return
    stands = _stands_at(world, saga)
    if isinstance(stands, str):
        yield stands
        return
    declared = _declared(saga)
    owed = {(debt.layer, debt.name) for debt in world.journal.debts(world.system)}
    for layer, name, why in _differing(world, saga, stands):
        of_row = layer if layer in BUILT_IN else OTHERS
        if of_row not in declared and (layer, name) not in owed and (layer, name) not in besides:
            yield f"saga {saga.id} ended as {saga.state}: {layer} {name} {why}"


def _stands_at(world: World, saga: Saga) -> Release | str:
    """The release at which a closed saga says that the system is, or why it is not there."""
    if saga.state is SagaState.NEEDS_HUMAN and not (saga.why and saga.left):
        return f"saga {saga.id} halted without saying what is left"
    route = world.journal.route(world.system)
    live = route.release if route else ""
    wanted = {
        SagaState.COMPLETED: {saga.target},
        SagaState.NEEDS_HUMAN: {saga.source, saga.target},
    }.get(saga.state, {saga.source})
    if live not in wanted:
        return f"saga {saga.id} ended as {saga.state}, but {live[:12] or 'nothing'} is live"
    return world.journal.release(live) if live else Release(world.system, {})


def _differing(world: World, saga: Saga, stands: Release) -> Iterator[tuple[str, str, str]]:
    """What does not show the release: layer, thing, and how. Lineage goes its own ways."""
    moved = saga.plan.get("tables", ()) if saga.state is SagaState.COMPLETED else ()
    for layer, pins in stands.layers.items():
        for pin in pins:
            if pin.lineage and pin.name not in moved:
                continue
            try:
                shows = world.layers[layer].live(pin.name)
            except EbbtideError:
                continue  # nobody can say what a store shows that is away
            if shows is None or shows.digest != pin.digest:
                yield layer, pin.name, f"shows {shows or 'nothing'}, not {pin}"


def _declared(saga: Saga) -> set[str]:
    """The layers of the steps that a halt says are left."""
    left = {line.removeprefix(_BACK).partition(":")[0] for line in saga.left}
    return {step["layer"] for step in saga.plan["steps"] if step["name"] in left}


def _still_held(world: World, history: _History) -> Iterator[str]:
    """Writers and effects are let go once a saga has ended, unless a halt says otherwise."""
    for saga in history.sagas:
        if saga.state is SagaState.NEEDS_HUMAN:
            return
        if saga.state is SagaState.COMPLETED and saga.level is not Level.MODEL:
            break
    for fence in world.journal.fences(world.system):
        yield f"writers of table {fence.table} are held back"
    if world.journal.effects_held(world.system):
        yield "the dispatch of side effects is held"
    tables = world.layers.get("data")
    if isinstance(tables, Holding):
        for name in tables.names:
            if by := _held_by(tables, name, world.system):
                yield f"table {name} carries the fence of saga {by}"


def _held_by(tables: Holding, name: str, system: str) -> str:
    try:
        return tables.held_by(name, system)
    except EbbtideError:
        return ""


def _moves_of_the_route(history: _History) -> Iterator[str]:
    times = Counter((entry.saga, entry.what) for entry in history.moves)
    for (saga, what), number in times.items():
        if number > 1:
            yield f"saga {saga}: {what} {number} times"


def _outcomes(history: _History) -> Iterator[str]:
    for saga in history.sagas:
        records = {record.n: record for record in history.steps[saga.id]}
        for n, step in enumerate(saga.plan["steps"]):
            if why := _outcome(saga, step, records.get(n)):
                yield f"saga {saga.id} ended as {saga.state}: step {n} {step['name']} {why}"
        yield from _effects_without_intent(saga, history.told[saga.id])


def _outcome(saga: Saga, step: Mapping[str, Any], record: StepRecord | None) -> str:
    """What is missing of a step in a saga of that end; empty: nothing."""
    if saga.state is SagaState.COMPLETED:
        passed = record is not None and record.verdict == Verdict.PASSED
        return "" if passed and record and record.done_at else "has not passed"
    if saga.state is SagaState.OPEN or record is None or not step["takes_back"]:
        return ""
    said = any(line.startswith(f"{_BACK}{step['name']}") for line in saga.left)
    forwards = saga.state is SagaState.NEEDS_HUMAN and record.undo_intent_at is None
    if record.undone_at is None and not said and not (forwards and saga.left):
        return "was begun and not taken back"
    return ""


def _effects_without_intent(saga: Saga, told: list[AuditEntry]) -> Iterator[str]:
    intents = {"step done": "step intended", "step undone": "undo intended"}
    begun: set[tuple[str, int]] = set()
    for entry in told:
        if entry.what in intents.values():
            begun.add((entry.what, entry.detail["step"]))
        wanted = intents.get(entry.what)
        if wanted and (wanted, entry.detail["step"]) not in begun:
            yield f"saga {saga.id}: entry {entry.n} ({entry.what}) without its intent"


def _losses(world: World, before: Seen) -> Iterator[str]:
    now = seen(world)
    for n, digest in before.entries.items():
        if now.entries.get(n) != digest:
            yield f"audit entry {n} is not what it was"
    for saga in before.sagas - now.sagas:
        yield f"saga {saga} is gone"
    given_up = world.journal.given_up(world.system)
    recorded = {release.id: release for release, _ in world.journal.releases(world.system)}
    for release in before.whole - given_up.keys():
        if release not in recorded:
            yield f"release {release[:12]} is gone"
        elif lost := _lost(world, recorded[release]):
            yield f"release {release[:12]}: {'; '.join(lost)}"


def _lost(world: World, release: Release) -> list[str]:
    found = []
    for layer, pins in release.layers.items():
        for pin in pins:
            try:
                found += world.layers[layer].problems(pin)
            except EbbtideError:
                continue  # nobody can say what a store holds that is away
    return found


def _epochs(world: World, history: _History, before: Seen | None) -> Iterator[str]:
    epochs = [entry.detail["epoch"] for entry in history.moves]
    for earlier, later in pairwise(epochs):
        if later <= earlier:
            yield f"epoch {later} came after {earlier}"
    route = world.journal.route(world.system)
    now = route.epoch if route else 0
    if epochs and now != epochs[-1]:
        yield f"the route is at epoch {now}, the trail at {epochs[-1]}"
    if before and now < before.epoch:
        yield f"the route went from epoch {before.epoch} to {now}"


def _out_of_turn(history: _History) -> Iterator[str]:
    for saga in history.sagas:
        steps = saga.plan["steps"]
        gated = {n for n, step in enumerate(steps) if step["phase"] != Phase.SETTLE}
        passed: set[int] = set()
        back = False
        for entry in history.told[saga.id]:
            if entry.what == "undo intended":
                back = True
            elif entry.what == "step found":
                (passed.add if entry.detail["verdict"] == "passed" else passed.discard)(
                    entry.detail["step"]
                )
            elif entry.what == "step intended":
                n = entry.detail["step"]
                if back:
                    yield f"saga {saga.id}: step {n} began after a take-back had"
                if missing := {each for each in gated if each < n} - passed:
                    yield f"saga {saga.id}: step {n} began before step {min(missing)} had passed"


def _too_often(history: _History) -> Iterator[str]:
    """Once too many have died over a saga, no machine begins anything; a person may, afterwards."""
    for saga in history.sagas:
        holder = 1
        for entry in history.told[saga.id]:
            if entry.what == "saga taken over":
                holder = entry.detail["lease_epoch"]
            elif entry.what == "saga closed":
                break
            elif holder > ATTEMPTS and entry.what in {"step intended", "undo intended"}:
                yield f"saga {saga.id}: attempt {holder} began step {entry.detail['step']}"
