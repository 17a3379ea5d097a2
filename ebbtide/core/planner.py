"""Planning: from an order to the very rows that will run. Reads only."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import median

from ebbtide.core import quarantine
from ebbtide.core.composing import (
    with_data_of_today,
    with_earlier_data,
    with_earlier_features,
    with_earlier_models,
)
from ebbtide.core.default_target import last_good, proved_good
from ebbtide.core.errors import AlreadyLive, NeverProved, Quarantined, Refused, Unknown
from ebbtide.core.journal import Journal, Route
from ebbtide.core.journal_age import require_newest
from ebbtide.core.keeping import (
    refuse_given_up,
)
from ebbtide.core.making import derived
from ebbtide.core.ports import World
from ebbtide.core.release import Release, diff
from ebbtide.core.saga import (
    OTHERS,
    REMADE,
    ROLLBACKS,
    Level,
    Move,
    Phase,
    Plan,
    PlannedStep,
)
from ebbtide.core.step import Step, nothing, qualified, says


@dataclass(frozen=True, slots=True)
class Order:
    """What a person or a machine asks for."""

    level: Level
    by: str
    to: str = ""
    """A release, by id or prefix; empty: the default target."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Level `model`: registry versions by model, in place of `to`."""
    features: Mapping[str, str] = field(default_factory=dict)
    """Level `features`: commits of the pipeline by feature set, in place of `to`."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Level `data`: version numbers by table, in place of `to`."""
    base: str = ""
    """Levels `features` and `data`: the release whose other layers stay; empty: the live one."""
    safe: str = ""
    """Levels `features` and `data`: what serves meanwhile; empty: the last release proved good.
    The live release itself: it goes on serving."""
    reason: str = ""
    accept_unproved: bool = False
    key: str = ""
    """The same key twice is the same order: it takes effect once."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan with the releases that it speaks of."""

    plan: Plan
    source: Release | None
    target: Release
    composed: bool
    """True where the target has yet to be recorded."""
    base: Release | None = None

    def move(self, saga: str, order: Order) -> Move:
        return Move(
            saga=saga,
            system=self.plan.system,
            level=self.plan.level,
            source=self.source,
            target=self.target,
            epoch=self.plan.epoch,
            by=order.by,
            reason=order.reason,
            accept_unproved=order.accept_unproved,
            base=self.base,
            tables=self.plan.tables,
        )


def draft(world: World, order: Order, table: Sequence[Step]) -> Draft:
    """Plan an order. Raises a `Refused` that says why it cannot be, touching nothing.

    Raises `Tampered` where the journal is older than what it vouches for.
    """
    require_newest(world)
    route = serving(world)
    source = world.journal.release(route.release, world.system) if route else None
    if source is None and order.level is not Level.PROMOTION:
        raise Refused(
            f"{world.system} serves no release yet, so there is nothing to roll back.",
            remedy=f"Promote one: ebbtide promote {world.system} RELEASE.",
        )
    base = _base(world, order, source)
    target, composed = _target(world, order, base)
    tables = _restored(world, order, target)
    _allowed(world, order, source, target, tables)
    epoch = route.epoch if route else _epoch(world)
    empty = Plan(
        system=world.system,
        level=order.level,
        source=source.id if source else "",
        target=target.id,
        epoch=epoch,
        steps=(),
        changes=diff(source, target),
        accept_unproved=order.accept_unproved,
        base=base.id if base and order.level in (Level.FEATURES, Level.DATA) else "",
        safe=_safe(world, order, source, target),
        tables=tables,
        recipe=target if target.unmade else None,
    )
    move = Draft(empty, source, target, composed, base).move("", order)
    durations = world.journal.durations(world.system, order.level)
    there = cache(lambda where: where(world))  # several rows ask the same
    rows = [row for row in table if there(row.where)]
    steps = _steps(move, rows, durations, derived(world.layers, target))
    floor = shallowest(world, source) if source else None
    plan = replace(empty, steps=steps, shallowest=floor)
    return Draft(plan, source, target, composed, base)


def serving(world: World) -> Route | None:
    """The route of a system that serves something, else None."""
    route = world.journal.route(world.system)
    return route if route and route.release else None


def shallowest(world: World, bad: Release) -> Level | None:
    """The shallowest level that undoes what `bad` changed; None where nothing came before."""
    before = last_good(world, bad)
    if before is None:
        return None
    changed = {
        change.layer for change in diff(before, bad) if not (change.after and change.after.lineage)
    }
    return Level.MODEL if changed <= {"model"} else Level.SYSTEM


def _base(world: World, order: Order, source: Release | None) -> Release | None:
    """The release whose other layers a composed target has."""
    if order.base:
        return _named(world, order.base)
    return source


def _named(world: World, release: str) -> Release:
    """A release that somebody names. Raises `Unknown`, `GivenUp`."""
    return refuse_given_up(world, world.journal.release(release, world.system))


def _safe(world: World, order: Order, source: Release | None, target: Release) -> str:
    """The release that shall serve while the target is made; empty: what is live goes on.

    What a rollback put there is safe already. Else the bad release would serve
    for as long as the making takes. Raises `NeverProved` where nothing is safe.
    """
    if order.level not in (Level.FEATURES, Level.DATA) or order.base or source is None:
        return ""
    if target.id == source.id:
        return ""  # what serves is right: only its tables have moved on
    if order.safe:
        safe = _named(world, order.safe).id
        return "" if safe in (source.id, target.id) else safe
    newest = world.journal.tenures(world.system, limit=1)
    if newest and world.journal.saga(newest[0].saga).level in ROLLBACKS:
        return ""
    good = last_good(world, source, order.level)
    if good is None:
        raise NeverProved(
            f"No earlier release of {world.system} was proved good: none is safe to serve while "
            "the target is being made.",
            remedy=f"Name one with --safe RELEASE; --safe {source.short} leaves the live one.",
        )
    return "" if good.id == target.id else good.id


def _target(world: World, order: Order, base: Release | None) -> tuple[Release, bool]:
    _only(order, Level.MODEL, order.models, "model versions")
    _only(order, Level.FEATURES, order.features, "commits of a pipeline")
    _only(order, Level.DATA, order.tables, "versions of tables")
    if base and (order.level is Level.MODEL or order.level in REMADE):
        target = _composed(world, order, base)
        return target, bool(target.unmade) or not _recorded(world.journal, target)
    if order.to:
        return _named(world, order.to), False
    if order.level is Level.PROMOTION:
        raise Refused("A promotion needs the release that shall be live.")
    return _default_or_refuse(world, base, order.level), False


def _composed(world: World, order: Order, base: Release) -> Release:
    """The base with what the level takes from earlier; unmade where that has to be made."""
    if order.level is Level.REFRESH:
        return with_data_of_today(world, base)
    compose, asked = {
        Level.MODEL: (with_earlier_models, order.models),
        Level.FEATURES: (with_earlier_features, order.features),
        Level.DATA: (with_earlier_data, order.tables),
    }[order.level]
    return compose(world, base, asked, None if asked else _earlier(world, order, base))


def _earlier(world: World, order: Order, base: Release) -> Release:
    if order.to:
        return _named(world, order.to)
    return _default_or_refuse(world, base, order.level)


def _only(order: Order, level: Level, asked: Mapping[str, str], what: str) -> None:
    if asked and order.level is not level:
        raise Refused(f"Only level `{level}` takes {what}.", remedy="Name a release instead.")


def _default_or_refuse(world: World, source: Release | None, level: Level) -> Release:
    found = last_good(world, source, level) if source else None
    if found is None:
        raise NeverProved(
            f"No earlier release of {world.system} was proved good in production.",
            remedy="Name one yourself, with --to RELEASE --accept-unproved.",
        )
    return found


def _recorded(journal: Journal, release: Release) -> bool:
    """Whether it need not be recorded; what was given up is recorded again."""
    try:
        journal.release(release.id, release.system)
    except Unknown:
        return False
    return release.id not in journal.given_up(release.system)


def _restored(world: World, order: Order, target: Release) -> tuple[str, ...]:
    """Level `data`: the tables that were named, else all; of those, what shows something else.

    A table may have moved on since the release: what it shows decides, not what is pinned.
    """
    if order.level is not Level.DATA:
        return ()
    layer = world.layers["data"]
    wanted = [pin for pin in target.pins("data") if not order.tables or pin.name in order.tables]
    return tuple(
        pin.name
        for pin in wanted
        if (shows := layer.live(pin.name)) is None or shows.digest != pin.digest
    )


def _allowed(
    world: World, order: Order, source: Release | None, target: Release, tables: Sequence[str]
) -> None:
    if source and target.id == source.id and not tables:
        raise AlreadyLive(
            f"{target.short} is the live release of {world.system} already.",
            remedy="`ebbtide releases` lists the others.",
        )
    denied = denials(world, target)
    if denied:
        raise Quarantined(
            f"{target.short} is quarantined: {'; '.join(denied)}.",
            remedy=quarantine.remedy(world, target),
        )
    if order.level is not Level.SYSTEM or order.accept_unproved:
        return  # forwards, or composed: the gates decide
    if target.id not in proved_good(world):
        raise NeverProved(
            f"{target.short} was never proved good in production.",
            remedy="Choose another, or say --accept-unproved.",
        )


def denials(world: World, target: Release) -> list[str]:
    """Why the target is denied: itself, or something that it pins."""
    return list(quarantine.denying(world.journal.quarantined(world.system), target).values())


def _epoch(world: World) -> int:
    route = world.journal.route(world.system)
    return route.epoch if route else 0


def _steps(
    move: Move,
    table: Iterable[Step],
    durations: Mapping[str, list[float]],
    derived: Collection[str],
) -> tuple[PlannedStep, ...]:
    return tuple(
        PlannedStep(
            name=row.name,
            phase=row.phase,
            layer=row.layer,
            does=says(row.do.do) if row.do else "",
            proves=says(row.prove),
            takes_back=says(row.undo) if row.undo is not nothing else "",
            changes=_changes(move, row.layer),
            seconds=median(durations[row.name]) if durations.get(row.name) else None,
        )
        for row in table
        if move.level in row.levels
        and (not row.layer or row.layer in derived or move.changed_layers(row.layer))
    )


def _changes(move: Move, layer: str) -> tuple[str, ...]:
    moved = {(each, pin) for each in move.changed_layers(layer) for pin in move.changed(each)}
    return tuple(
        f"{change.layer} {change}" if layer == OTHERS else str(change)
        for change in move.changes
        if (change.layer, change.after) in moved
    )


def preflight(world: World, planned: Draft, order: Order, table: Sequence[Step]) -> Plan:
    """The plan with why its preflight gates would refuse it now. Touches nothing."""
    move = planned.move("", order)
    names = {step.name for step in planned.plan.steps}
    refusals = []
    for row in table:
        if row.phase is Phase.PREFLIGHT and row.name in names:
            finding = row.prove(world, move)
            if not finding.passed:
                refusals.append(f"{qualified(row.prove)}: {finding.why} {finding.remedy}".strip())
    return replace(planned.plan, refusals=tuple(refusals))
