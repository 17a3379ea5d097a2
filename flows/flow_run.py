"""An order carried out inside a Prefect flow run: in a thread, with a task run for each call."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from threading import Event
from typing import Any

from prefect import State
from prefect.context import SyncClientContext
from prefect.states import Cancelled, Completed, Failed

from ebbtide.core.engine import Call
from ebbtide.core.errors import Refused
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Phase, Saga, SagaState
from flows import order as orders
from flows.board import Board
from tasks.perform import as_task_run

Perform = Callable[[Call, Callable[[], object]], object]


class WentWithout(Exception):
    """The order was carried out without Prefect, which was too slow to begin."""


async def follow(
    open_it: Callable[[], World],
    ask: Callable[[World], Order],
    *,
    run: Callable[..., Saga] = orders.carry_out,
    stop: Event | None = None,
) -> State[Any]:
    """Open a world, carry an order out in it, and say how it ended.

    Where the flow run is cancelled or `stop` is set, the saga stops at the next
    step, takes back what it did, and only then does the flow run end.
    """
    halt, board = stop or Event(), Board()

    def work() -> Saga:
        world = open_it()
        # One client for all task runs: each would make its own, in 80 ms.
        with SyncClientContext.get_or_create():
            return run(world, ask(world), perform=_unless(halt), observer=board)

    # Not `asyncio.to_thread`: after a cancel, its thread could not be waited for.
    saga = asyncio.get_running_loop().run_in_executor(None, copy_context().run, work)
    try:
        return end_state(await asyncio.shield(saga))
    except Refused as fault:
        return Failed(name="Refused", message=str(fault))
    except WentWithout as fault:
        return Cancelled(message=str(fault) or WentWithout.__doc__)
    except asyncio.CancelledError:
        halt.set()
        await asyncio.wait([saga])
        raise
    finally:
        await asyncio.to_thread(board.finish)


def end_state(saga: Saga) -> State[Any]:
    """The final state of a flow run: what became of the system, as its name."""
    says = (
        f"Saga {saga.id}: {saga.source[:12] or 'nothing'} → {saga.target[:12]}. {saga.why}".strip()
    )
    if saga.state is SagaState.COMPLETED:
        forwards = {Level.PROMOTION: "Promoted", Level.REFRESH: "Refreshed"}
        return Completed(name=forwards.get(saga.level, "RolledBack"), message=says)
    if saga.state is SagaState.TAKEN_BACK:
        return Failed(name="TakenBack", message=f"{says} The system is where it was before.")
    if saga.state is SagaState.REFUSED:
        return Failed(name="Refused", message=f"{says} Nothing was touched.")
    left = "".join(f"\n- {remaining}" for remaining in saga.left)
    return Failed(name="NeedsHuman", message=f"{says}\nWhat remains:{left}")


def _unless(halt: Event) -> Perform:
    """Task runs, until somebody wants the saga to stop: what settles is still finished."""

    def perform(call: Call, function: Callable[[], object]) -> object:
        if halt.is_set() and call.kind != "take back" and call.phase is not Phase.SETTLE:
            raise KeyboardInterrupt
        return as_task_run(call, function)

    return perform
