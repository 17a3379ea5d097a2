"""A refresh as a person or a schedule starts it in Prefect."""

import asyncio
from functools import partial
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from ebbtide.core.engine import Call
from ebbtide.core.errors import AlreadyLive
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Phase, Saga
from flows import order as orders
from flows.flow_run import follow
from flows.refreshing import Refreshed, refresh_before
from flows.systems import open_named
from tasks.perform import as_task_run


@flow(name="refresh", flow_run_name="refresh {system}", retries=0)
async def refresh_features(
    system: str,
    ordered_by: str = "the refresh schedule",
    reason: str = "",
    systems: str = "",
) -> State[Any]:
    """Make the live features anew from today's data, gate them, and move the system to them.

    In a release's cool-down the release before is refreshed as well, aside: going back never
    means going back to stale features.

    Args:
        system: The system, as its system file is named, such as `shop-search`.
        ordered_by: Who orders this; it goes into the audit trail.
        reason: Why; it goes into the audit trail.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """
    order = Order(level=Level.REFRESH, by=ordered_by, reason=reason)
    opened = partial(open_named, system, systems)
    nothing_new = False

    def run(world: World, order: Order, **how: Any) -> Saga:
        nonlocal nothing_new
        try:
            return orders.carry_out(world, order, **how)
        except AlreadyLive:
            nothing_new = True
            raise

    state = await follow(opened, lambda _: order, run=run)
    if not (nothing_new or state.is_completed()):
        return state
    found = await asyncio.to_thread(_before, opened(), ordered_by)
    said = found.said if nothing_new else f"{state.message}\n{found.said}"
    if found.why:
        return Failed(name="BeforeIsStale", message=said)
    name = "NothingNew" if nothing_new and not found.is_new else "Refreshed"
    return Completed(name=name, message=said)


def _before(world: World, by: str) -> Refreshed:
    call = Call("do", "refresh.release_before", Phase.PREPARE)
    found = as_task_run(call, partial(refresh_before, world, None, by=by))
    assert isinstance(found, Refreshed)
    return found
