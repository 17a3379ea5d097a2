"""Commands that change what is live: they show the target, and ask."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebbtide.core.errors import Refused
from ebbtide.core.saga import Level, Saga, SagaState
from ebbtide.entrypoints.cli import options as opt
from ebbtide.entrypoints.cli.data import with_versions

if TYPE_CHECKING:
    from ebbtide.core.planner import Draft, Order
    from ebbtide.core.ports import World

EXIT = {
    SagaState.COMPLETED: 0,
    SagaState.TAKEN_BACK: 1,
    SagaState.REFUSED: 3,
    SagaState.NEEDS_HUMAN: 8,
}
"""Exit codes by how the saga ended. Faults have theirs in `ebbtide.core.errors`."""

Key = Annotated[str, typer.Option("--key", help="The same key twice is the same order.")]


def rollback(
    what: opt.What,
    to: opt.To = "",
    model: opt.Model = None,
    features: opt.Features = None,
    table: opt.Table = None,
    base: opt.Base = "",
    safe: opt.Safe = "",
    yes: opt.Yes = False,
    reason: opt.Reason = "",
    by: opt.By = "",
    accept_unproved: opt.AcceptUnproved = False,
    key: Key = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Roll a system back: to the last release that was proved good, or to the one named."""
    level, system = opt.level_and_system(what)
    order = opt.order(
        level,
        by=by,
        to=to,
        model=model,
        features=features,
        table=table,
        base=base,
        safe=safe,
        reason=reason,
        accept_unproved=accept_unproved,
        key=key,
    )
    world = opt.open_world(system, systems)
    order = replace(order, tables=with_versions(world, order.tables, yes=yes, quiet=json))
    _carry_out(world, order, yes=yes, json=json)


def promote(
    system: opt.System,
    release: Annotated[str, typer.Argument(help="The release that shall be live.")],
    yes: opt.Yes = False,
    reason: opt.Reason = "",
    by: opt.By = "",
    key: Key = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Make a release live: the same engine and gates, forwards."""
    order = opt.order(Level.PROMOTION, by=by, to=release, reason=reason, key=key)
    _carry_out(opt.open_world(system, systems), order, yes=yes, json=json)


def release(
    system: opt.System,
    model: opt.Model = None,
    at: Annotated[str, typer.Option("--at", metavar="COMMIT", help="For all that git has.")] = "",
    pin: Annotated[
        list[str] | None,
        typer.Option("--pin", metavar="LAYER/THING=VERSION", help="Pin one thing by hand."),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What it is, for people.")] = "",
    by: opt.By = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Record a release: pin every layer, ask the golden set, keep the evidence."""
    from ebbtide.core.recording import record, resolve
    from ebbtide.core.release import diff
    from ebbtide.entrypoints.cli import shown

    world = opt.open_world(system, systems)
    found = resolve(world, _asks(world, model, at, pin))
    evidence = record(world, found, by=opt.who(by), note=note)
    if json:
        shown.as_json({"id": found.id, "manifest": found.to_json(), "golden": evidence.golden})
        return
    shown.show(shown.changes(diff(None, found), f"Release {found.short} of {system}"))
    for name, finding in evidence.findings.items():
        shown.out.print(f"{name}: {finding['verdict']}, {finding['why']}", markup=False)
    shown.out.print(f"Make it live: ebbtide promote {system} {found.short}", soft_wrap=True)


def _asks(
    world: "World", model: list[str] | None, at: str, pin: list[str] | None
) -> dict[str, dict[str, str]]:
    """What is to be pinned, by layer and thing; git's layers all at one commit."""
    asks: dict[str, dict[str, str]] = {}
    if at:
        for layer in ("features", "config", "infra"):
            if layer in world.layers:
                asks[layer] = dict.fromkeys(world.layers[layer].names, at)
    if model:
        asks["model"] = opt.versions(model)
    for place, version in opt.versions(pin).items():
        layer, slash, thing = place.partition("/")
        if not slash:
            raise typer.BadParameter(f"`{place}` is not LAYER/THING.")
        asks.setdefault(layer, {})[thing] = version
    return asks


def _carry_out(world: "World", order: "Order", *, yes: bool, json: bool) -> None:
    from ebbtide.entrypoints.cli import shown

    # Given before, it is told and not planned: by now its target is live already.
    saga: Saga | None = opt.entry("flows.same_order:outcome")(world, order)
    if saga is None:
        drafted = opt.entry("flows.order:plan")(world, order)
        if not yes:
            _ask(world, drafted, order)
        observer = _quiet if json else shown.progress
        carry_out = opt.entry("flows.shell:carry_out")
        saga = carry_out(world, order, shown=drafted.plan.digest, observer=observer)
    if json:
        shown.as_json(_result(saga))
    else:
        shown.ending(saga)
    sys.exit(EXIT[saga.state])


def _ask(world: "World", drafted: "Draft", order: "Order") -> None:
    """Show what would change, with what the gates say of it, and wait for a yes."""
    from ebbtide.core.planner import preflight
    from ebbtide.entrypoints.cli import shown

    if not sys.stdin.isatty():
        raise Refused("Nobody is there to ask.", remedy="Say --yes.")
    shown.ordered(world, drafted)
    plan = preflight(world, drafted, order, opt.entry("flows.levels:STEPS"))
    shown.plan(plan)
    if plan.refusals:
        raise Refused("The preflight gates would refuse this.", remedy=plan.refusals[0])
    if not typer.confirm(f"Make {drafted.target.short} live in {world.system}?"):
        raise Refused("Not confirmed; nothing was touched.")


def _quiet(_event: object) -> None:
    """Machines read the end only."""


def _result(saga: Saga) -> dict[str, Any]:
    return {
        "saga": saga.id,
        "state": saga.state.value,
        "source": saga.source,
        "target": saga.target,
        "why": saga.why,
        "left": list(saga.left),
        "seconds": (saga.closed_at or saga.opened_at) - saga.opened_at,
    }
