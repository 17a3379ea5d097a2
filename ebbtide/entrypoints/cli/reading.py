"""Commands that only read. Each prints JSON for machines with --json."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebbtide.core.errors import Tampered, Unknown
from ebbtide.entrypoints.cli import options as opt
from ebbtide.entrypoints.cli.data import with_versions

if TYPE_CHECKING:
    from ebbtide.core.journal import Route
    from ebbtide.core.ports import World
    from ebbtide.core.release import Release

_FEW = 5
"""Effects that a person is shown by name; `--json` has all."""


def plan(
    what: opt.What,
    to: opt.To = "",
    model: opt.Model = None,
    features: opt.Features = None,
    table: opt.Table = None,
    base: opt.Base = "",
    safe: opt.Safe = "",
    accept_unproved: opt.AcceptUnproved = False,
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Show what a rollback would do, row by row, and whether its gates would let it."""
    from ebbtide.core.planner import preflight
    from ebbtide.entrypoints.cli import shown

    level, system = opt.level_and_system(what)
    world = opt.open_world(system, systems)
    order = opt.order(
        level,
        by="",
        to=to,
        model=model,
        features=features,
        table=table,
        base=base,
        safe=safe,
        accept_unproved=accept_unproved,
    )
    order = replace(order, tables=with_versions(world, order.tables, yes=False, quiet=json))
    drafted = opt.entry("flows.order:plan")(world, order)
    found = preflight(world, drafted, order, opt.entry("flows.levels:STEPS"))
    if json:
        shown.as_json(found.to_json())
    else:
        shown.ordered(world, drafted)
        shown.plan(found)
    raise typer.Exit(3 if found.refusals else 0)


def status(
    system: Annotated[str, typer.Argument(help="One system; default: all.")] = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Say what is live, since when, on which replicas, and where a rollback would go."""
    from ebbtide.entrypoints.cli import shown

    names = [system] if system else sorted(file.stem for file in systems.glob("*.yaml"))
    if not names:
        raise Unknown(f"{systems} has no system files.", remedy="Name their folder: --systems.")
    found = [_status(opt.open_world(name, systems)) for name in names]
    if json:
        shown.as_json(found)
        return
    for each in found:
        shown.pairs(each["system"], _told(each))


def _status(world: "World") -> dict[str, Any]:
    from ebbtide.core.paying import owed
    from ebbtide.core.planner import serving
    from ebbtide.core.saga import SagaState
    from ebbtide.entrypoints.cli import shown

    route = serving(world)
    replicas = world.journal.replicas(world.system, world.policy.heartbeat_within)
    last = world.journal.sagas(world.system, limit=1)
    return {
        "system": world.system,
        "live": route.release if route else "",
        "epoch": route.epoch if route else 0,
        "since": shown.time(route.since) if route else "",
        "rollback_target": _rollback_target(world, route),
        "open_saga": last[0].id if last and last[0].state is SagaState.OPEN else "",
        "abandoned": [saga.id for saga in world.journal.abandoned(world.system)],
        "owed": owed(world),
        **_effects(world),
        "held_tables": [
            f"{fence.table} by saga {fence.saga}" for fence in world.journal.fences(world.system)
        ],
        "last_saga": f"{last[0].id} {last[0].level} {last[0].state}" if last else "",
        "replicas": [
            {"name": replica.name, "url": replica.url, "release": replica.release[:12]}
            | {"epoch": replica.epoch, "age": round(replica.age, 1)}
            for replica in replicas
        ],
        "quarantined": [
            {"digest": digest, "why": why}
            for digest, why in world.journal.quarantined(world.system).items()
        ],
    }


def _rollback_target(world: "World", route: "Route | None") -> str:
    from ebbtide.core.default_target import last_good

    live = world.journal.release(route.release, world.system) if route else None
    found = last_good(world, live) if live else None
    return found.id if found else ""


def _effects(world: "World") -> dict[str, Any]:
    """The effects that wait for somebody, and the commands that let them go on."""
    from ebbtide.core.waiting_effects import gave_up, let_go_by, queued, retried_by

    held = world.journal.effects_held(world.system)
    return {
        "effects_held_by": held.saga if held else "",
        "effects_held": [effect.key for effect in queued(world)] if held else [],
        "effects_go_on_by": let_go_by(world, held) if held else "",
        "effects_failed": [
            {"key": effect.key, "kind": effect.kind, "why": effect.why, "by": retried_by(effect)}
            for effect in gave_up(world)
        ],
    }


def _told(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A status for people: one thing on each line, ids as commands take them."""
    for key in ("live", "epoch", "since", "rollback_target", "open_saga", "last_saga"):
        value = status[key]
        short = str(value)[:12] if key in ("live", "rollback_target") else str(value)
        yield key.replace("_", " "), short or "none"
    lists = {
        "replicas": [
            f"{each['name']} {each['url']} serves {each['release'] or 'nothing'} in epoch "
            f"{each['epoch']}, reported {each['age']} s ago"
            for each in status["replicas"]
        ],
        "quarantined": [f"{each['digest'][:12]} {each['why']}" for each in status["quarantined"]],
    }
    for key, lines in lists.items():
        for number, line in enumerate(lines or ["none"]):
            yield (key if number == 0 else ""), line
    yield from _told_effects(status)
    for held in status["held_tables"]:
        yield "writers held", held
    for owed in status["owed"]:
        yield "owed", owed
    if status["abandoned"] or status["owed"]:
        yield "finish it by", f"ebbtide recover {status['system']}"
    if status["quarantined"]:
        yield "lift it by", f"ebbtide lift-quarantine {status['system']} DIGEST --reason TEXT"


def _told_effects(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if status["effects_held_by"]:
        waiting = status["effects_held"]
        yield "effects held", f"{_few(waiting)} by saga {status['effects_held_by']}"
        yield "they go on by", status["effects_go_on_by"]
    failed = status["effects_failed"]
    for number, each in enumerate(failed[:_FEW]):
        yield ("effects failed" if number == 0 else ""), f"{each['key']}: {each['why']}"
        yield "send it by", each["by"]
    if len(failed) > _FEW:
        all_by = f"ebbtide effects {status['system']} --state failed"
        yield "", f"and {len(failed) - _FEW} more: {all_by}"


def _few(keys: list[str]) -> str:
    more = f" and {len(keys) - _FEW} more" if len(keys) > _FEW else ""
    return (", ".join(keys[:_FEW]) or "none that is queued") + more


def diff(
    system: opt.System,
    before: Annotated[str, typer.Argument(help="A release, or `live`.")],
    after: Annotated[str, typer.Argument(help="A release, or `live`.")] = "live",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Say what changed from one release to another, layer by layer."""
    from ebbtide.core.release import diff
    from ebbtide.entrypoints.cli import shown

    world = opt.open_world(system, systems)
    old, new = _named(world, before), _named(world, after)
    found = diff(old, new)
    if json:
        shown.as_json([change.to_json() for change in found])
    elif found:
        shown.show(shown.changes(found, f"{old.short} → {new.short}"))
    else:
        shown.out.print(f"{old.short} and {new.short} are the same.")


def _named(world: "World", name: str) -> "Release":
    from ebbtide.core.planner import serving

    if name != "live":
        return world.journal.release(name, world.system)
    route = serving(world)
    if route is None:
        raise Unknown(f"{world.system} serves no release yet.")
    return world.journal.release(route.release, world.system)


def history(
    system: opt.System,
    saga: Annotated[str, typer.Argument(help="One saga, step by step.")] = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """List the sagas, newest first, or tell one step by step."""
    from ebbtide.entrypoints.cli import shown

    world = opt.open_world(system, systems)
    if saga:
        _one_saga(world, saga, json)
        return
    found = world.journal.sagas(system)
    if json:
        shown.as_json([asdict(each) for each in found])
        return
    names = ("saga", "opened", "by", "level", "from", "to", "ended", "reason")
    drawn = shown.table("", *names, free=("opened", "by", "ended", "reason"))
    for each in found:
        row = (each.id, shown.time(each.opened_at), each.by, each.level.value)
        drawn.add_row(*row, each.source[:12], each.target[:12], each.state.value, each.reason)
    shown.show(drawn)


def _one_saga(world: "World", name: str, json: bool) -> None:
    from ebbtide.entrypoints.cli import shown

    saga = world.journal.saga(name)
    steps = world.journal.steps(saga.id)
    if json:
        shown.as_json({**asdict(saga), "steps": [asdict(step) for step in steps]})
        return
    names = ("phase", "step", "took", "verdict", "why", "taken back")
    drawn = shown.table("", *names, free=("why", "taken back"))
    for step in steps:
        took = (step.proved_at or step.intent_at) - step.intent_at
        back = step.undo_error or shown.time(step.undone_at)
        drawn.add_row(step.phase.value, step.name, shown.span(took), step.verdict, step.why, back)
    shown.show(drawn)
    shown.ending(saga)


def verify(
    system: opt.System,
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Check the audit chain, every pin of the live release, and that all follows the route."""
    from ebbtide.entrypoints.cli import shown

    world = opt.open_world(system, systems)
    found: dict[str, list[str] | None] = {"journal": world.journal.verify()}
    found |= _live_as_pinned(world) if not found["journal"] else dict.fromkeys(_OUTSIDE)
    if json:
        shown.as_json(found)
    else:
        for place, problems in found.items():
            state = "not checked" if problems is None else "as it should be"
            shown.out.print(f"{place}: {'' if problems else state}")
            for problem in problems or ():
                shown.out.print(f"  {problem}", soft_wrap=True, markup=False)
    if any(found.values()):
        raise typer.Exit(Tampered.exit_code)


_OUTSIDE = ("pins", "projections")


def _live_as_pinned(world: "World") -> dict[str, list[str] | None]:
    """What is wrong with the live release's pins, and what does not follow the route."""
    from ebbtide.core.planner import serving

    pins: list[str] = []
    projections: list[str] = []
    route = serving(world)
    live = world.journal.release(route.release, world.system) if route else None
    for layer, things in live.layers.items() if live else ():
        for pin in things:
            pins += world.layers[layer].problems(pin)
            projections += _drift(world, layer, pin)
    return dict(zip(_OUTSIDE, (pins, projections), strict=True))


def _drift(world: "World", layer: str, pin: Any) -> list[str]:
    """Whether the projection of a live pin shows something else."""
    if pin.lineage:
        return []
    shows = world.layers[layer].live(pin.name)
    if shows is not None and shows.digest == pin.digest:
        return []
    return [f"{layer} {pin.name} shows {shows or 'nothing'}; the live release pins {pin}."]
