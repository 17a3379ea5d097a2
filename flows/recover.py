"""Recovery as a schedule or a person starts it in Prefect."""

import asyncio
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from ebbtide.core.errors import EbbtideError
from ebbtide.core.saga import Saga, SagaState
from flows.systems import names_in, open_named
from flows.unfinished import finish, pay
from tasks.perform import as_task_run


@flow(name="recover", flow_run_name="recover {system}", retries=0)
async def recover_sagas(
    system: str = "", ordered_by: str = "the recovery schedule", systems: str = ""
) -> State[Any]:
    """Finish rollbacks and promotions whose process died: forward where proved, else back.

    Args:
        system: One system, as its system file is named. Empty: all of them.
        ordered_by: Who recovers; it goes into the audit trail.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """
    names = [system.strip()] if system.strip() else names_in(systems)
    ended, faults = await asyncio.to_thread(_all, names, ordered_by, systems)
    told = [f"Saga {saga.id} of {saga.system}: {saga.state}. {saga.why}" for saga in ended] + faults
    halted = [saga for saga in ended if saga.state is SagaState.NEEDS_HUMAN]
    if faults or halted:
        return Failed(name="NeedsHuman" if halted else "NotRecovered", message="\n".join(told))
    return Completed(
        name="Recovered" if ended else "NothingToDo",
        message="\n".join(told) or "Nothing was abandoned.",
    )


def _all(names: list[str], by: str, systems: str) -> tuple[list[Saga], list[str]]:
    """How each abandoned saga ended, and what could not be looked at: the others still are."""
    ended, faults = [], []
    for name in names:
        try:
            world = open_named(name, systems)
            ended += finish(world, by=by, perform=as_task_run)
            faults += [f"{name}: {line}" for line in pay(world, by=by) if line.startswith("still")]
        except EbbtideError as fault:
            faults.append(f"{name}: {fault}")
    return ended, faults
