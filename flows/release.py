"""Recording a release and putting it live, as a person or a pipeline starts them in Prefect."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from ebbtide.core.engine import Call
from ebbtide.core.errors import Refused
from ebbtide.core.planner import Order
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Phase
from flows.flow_run import follow
from flows.systems import open_named
from tasks.perform import as_task_run


@flow(name="release", flow_run_name="release {system}", retries=0)
async def record_release(
    system: str,
    recorded_by: str,
    versions: list[str] = [],  # noqa: B006 - Prefect shows it in the form, and copies it
    note: str = "",
    systems: str = "",
) -> State[Any]:
    """Record what the system is made of now, with its evidence. Nothing live changes.

    Args:
        system: The system, as its system file is named, such as `shop-search`.
        recorded_by: Who records this; it goes into the evidence.
        versions: `layer/thing=version`, such as `model/demand=7`; what is left out is pinned
            as it is now.
        note: A word for those who will choose among releases later.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """

    def work() -> Release:
        world = open_named(system, systems)
        found = as_task_run(_call("resolve"), partial(resolve, world, _asks(versions)))
        assert isinstance(found, Release)
        as_task_run(_call("record"), partial(record, world, found, by=recorded_by, note=note))
        return found

    try:
        release = await asyncio.to_thread(work)
    except Refused as fault:
        return Failed(name="Refused", message=str(fault))
    return Completed(name="Recorded", message=f"Release {release.short} of {system}.")


@flow(name="promote", flow_run_name="promote {system} to {release}", retries=0)
async def promote_release(
    system: str,
    release: str,
    ordered_by: str,
    reason: str = "",
    systems: str = "",
) -> State[Any]:
    """Put a recorded release live. The same steps as a rollback, and taken back like one.

    Args:
        system: The system, as its system file is named, such as `shop-search`.
        release: The release that shall be live, by its id or the first 6 digits and more.
        ordered_by: Who orders this; it goes into the audit trail.
        reason: Why; it goes into the audit trail.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """
    order = Order(level=Level.PROMOTION, by=ordered_by, to=release.strip(), reason=reason)
    return await follow(partial(open_named, system, systems), lambda _: order)


def _asks(versions: Sequence[str]) -> dict[str, dict[str, str]]:
    asks: dict[str, dict[str, str]] = {}
    for text in versions:
        thing, _, version = text.partition("=")
        layer, _, name = thing.partition("/")
        if not (layer.strip() and name.strip() and version.strip()):
            raise Refused(f"{text!r} is not `layer/thing=version`.")
        asks.setdefault(layer.strip(), {})[name.strip()] = version.strip()
    return asks


def _call(what: str) -> Call:
    return Call("do", f"release.{what}", Phase.PREPARE)
