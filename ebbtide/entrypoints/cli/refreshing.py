"""`ebbtide refresh`: the live pipelines over today's data."""

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from ebbtide.core.errors import AlreadyLive, Refused
from ebbtide.core.saga import Level
from ebbtide.entrypoints.cli import options as opt
from ebbtide.entrypoints.cli.changing import EXIT, Key

if TYPE_CHECKING:
    from ebbtide.core.planner import Order
    from ebbtide.core.ports import World


def refresh(
    system: opt.System,
    yes: opt.Yes = False,
    reason: opt.Reason = "",
    by: opt.By = "",
    key: Key = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Make the live features anew from today's data, and move the system to them.

    In a release's cool-down the release before is refreshed too, aside. Ends with
    0 also where there is nothing new.
    """
    from ebbtide.entrypoints.cli import shown

    order = opt.order(Level.REFRESH, by=by, reason=reason, key=key)
    world = opt.open_world(system, systems)
    if not yes:
        _ask(world, order)
    observer = _quiet if json else shown.progress
    carry_out = partial(opt.entry("flows.shell:carry_out"), world, order, observer=observer)
    found = opt.entry("flows.refreshing:refresh")(world, carry_out, by=order.by)
    if json:
        shown.as_json(_plain(found))
    elif found.saga is None:
        shown.out.print(found.said, soft_wrap=True, markup=False)
    else:
        shown.ending(found.saga)
        shown.out.print(found.said, soft_wrap=True, markup=False)
    code = 0 if found.saga is None else EXIT[found.saga.state]
    sys.exit(code or (1 if found.why else 0))


def _ask(world: "World", order: "Order") -> None:
    from ebbtide.entrypoints.cli import shown

    if not sys.stdin.isatty():
        raise Refused("Nobody is there to ask.", remedy="Say --yes.")
    try:
        shown.plan(opt.entry("flows.order:plan")(world, order).plan)
    except AlreadyLive:
        return  # there is nothing to ask: nothing live will change
    if not typer.confirm(f"Make the features of {world.system} anew, and move it to them?"):
        raise Refused("Not confirmed; nothing was touched.")


def _quiet(_event: object) -> None:
    """Machines read the end only."""


def _plain(found: Any) -> dict[str, Any]:
    saga = found.saga
    return {
        "saga": saga.id if saga else "",
        "state": saga.state.value if saga else "nothing new",
        "live": saga.target if saga else "",
        "before": found.before,
        "before_is_new": found.is_new,
        "why": found.why or (saga.why if saga else ""),
    }
