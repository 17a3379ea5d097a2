"""The same order given twice: it takes effect once, and both are told the same end."""

from time import sleep

from ebbtide.core.errors import SagaOpen
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.saga import Saga, SagaState

_PAUSE = 0.1
"""Seconds between two looks at a saga that another process runs."""


def safe_key(order: Order) -> str:
    """The key of the saga to safety that goes before, where an order has one."""
    return f"{order.key}/safe" if order.key else ""


def outcome(world: World, order: Order) -> Saga | None:
    """What the order came to where somebody has given it before; its end is waited for.

    None where nobody has. Raises `SagaOpen` where the process that ran it has died.
    """
    if not order.key:
        return None
    before = _ended(world, safe_key(order))
    if before is not None and before.state is not SagaState.COMPLETED:
        return before
    return _ended(world, order.key)


def _ended(world: World, key: str) -> Saga | None:
    while True:
        saga = world.journal.saga_by_key(world.system, key)
        if saga is None or saga.state is not SagaState.OPEN:
            return saga
        if saga.id in [dead.id for dead in world.journal.abandoned(world.system)]:
            raise SagaOpen(
                f"This very order is saga {saga.id}, whose process has died.",
                remedy=f"Finish it: ebbtide recover {world.system}.",
            )
        sleep(_PAUSE)
