"""Finishing sagas whose process died, or which a person has put right since.

Recovery replays the stored plan, not the code of the order: the journal says
what was begun, and every step's own undo reads what stands outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ebbtide.core import events
from ebbtide.core.engine import Call, Engine, directly
from ebbtide.core.ports import World
from ebbtide.core.release import Release
from ebbtide.core.saga import Move, Saga
from ebbtide.core.step import Step

ATTEMPTS = 5
"""Processes that may die over one saga, the first among them, before a person has to look."""


def recover(
    world: World,
    table: Sequence[Step],
    saga: str,
    *,
    by: str,
    by_hand: bool = False,
    perform: Callable[[Call, Callable[[], object]], object] = directly,
    observer: events.Observer = events.unobserved,
) -> Saga:
    """Take a saga over and bring it to its end. Returns the closed saga.

    `by_hand`: a person asks for it, so the number of attempts does not count.
    Raises `SagaOpen` where its process is alive, `Refused` where it has ended,
    `PlanChanged` where another version of ebbtide made the plan, with nothing
    touched.
    """
    found = world.journal.saga(saga)
    engine = Engine(world, table, perform=perform, observer=observer)
    engine.check(found.plan)
    lease = world.journal.take_over(found.id, by=by)
    engine = Engine(replace(world, lease=lease), table, perform=perform, observer=observer)
    if lease.epoch > ATTEMPTS and not by_hand:
        return engine.give_up(lease, f"{ATTEMPTS} processes have died over it.")
    return engine.resume(move_of(world, world.journal.saga(found.id)), found.plan, lease)


def move_of(world: World, saga: Saga) -> Move:
    """The move of a saga, as the journal has it."""
    plan = saga.plan
    source = world.journal.release(saga.source) if saga.source else None
    base = world.journal.release(plan["base"]) if plan.get("base") else None
    return Move(
        saga=saga.id,
        system=saga.system,
        level=saga.level,
        source=source,
        target=_target(world, saga),
        epoch=saga.epoch,
        by=saga.by,
        reason=saga.reason,
        accept_unproved=bool(plan.get("accept_unproved")),
        base=base or source,
        tables=tuple(plan.get("tables", ())),
    )


def _target(world: World, saga: Saga) -> Release:
    """The target, or its recipe where it died before all of it was made."""
    recipe = saga.plan.get("recipe")
    if recipe is not None and Release.from_json(recipe).id == saga.target:
        return Release.from_json(recipe)
    return world.journal.release(saga.target)
