"""Sagas whose process died: found by their lease, and finished.

No Prefect here: this must run when the orchestrator is down.
"""

from collections.abc import Callable
from functools import partial

from ebbtide.core import events
from ebbtide.core.engine import Call, directly
from ebbtide.core.errors import Fenced, SagaOpen
from ebbtide.core.paying import marks_owed, pay_all
from ebbtide.core.ports import World
from ebbtide.core.recovery import recover
from ebbtide.core.saga import Saga
from flows.levels import STEPS
from tasks import outputs
from tasks.patience import patiently


def pay(world: World, *, by: str) -> list[str]:
    """Let projections follow the route, and mark what was recalled; the unpaid first.

    A line for each.
    """
    paid, left = pay_all(world, by=by)
    marked, unmarked = _pay_marks(world)
    follow = [f"{debt.layer} {debt.name} follows the route" for debt in paid]
    return [f"still owed: {line}" for line in left + unmarked] + [
        f"paid: {line}" for line in follow + marked
    ]


def finish(
    world: World,
    *,
    by: str,
    saga: str = "",
    perform: Callable[[Call, Callable[[], object]], object] = directly,
    observer: events.Observer = events.unobserved,
) -> list[Saga]:
    """Finish every saga of the system that was abandoned; `saga`: that one, by hand.

    Returns them as they ended. One that another process takes over meanwhile is left to it.
    """
    one = partial(recover, world, STEPS, by=by, perform=patiently(perform), observer=observer)
    if saga:
        return [one(saga, by_hand=True)]
    finished = []
    for found in world.journal.abandoned(world.system):
        try:
            finished.append(one(found.id))
        except (SagaOpen, Fenced):
            continue  # somebody was faster
    return finished


def _pay_marks(world: World) -> tuple[list[str], list[str]]:
    """What was marked, and what was not.

    Also what was begun and never written is looked for: its rows may have
    landed after its job was killed.
    """
    told = world.outputs.told if world.outputs else {}
    wanted = [part for part in world.journal.unmarked(world.system) if part.output in told]
    marked, faults = outputs.mark_each(world, wanted)
    left = [f"output {name}: {fault}" for name, fault in faults.items()]
    left += [
        f"output {name}: its table shows nothing of {len(parts)} recalled parts. Bring it back; "
        "or, where it is gone for good, take the output out of the system file"
        for name, parts in marks_owed(world).items()
        if name not in faults
    ]
    done = [f"output {name}: {count} parts are marked" for name, count in marked.items() if count]
    return done, left
