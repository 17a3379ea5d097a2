"""From an order to a closed saga, with nothing but the world: what every flow does inside.

No Prefect here: this must run when the orchestrator is down.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ebbtide.core import events
from ebbtide.core.engine import Call, Engine, directly
from ebbtide.core.errors import PlanChanged, Refused
from ebbtide.core.planner import Draft, Order, draft, preflight
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Saga, SagaState
from flows.levels import STEPS
from flows.same_order import outcome, safe_key
from tasks import contents
from tasks.patience import patiently


def plan(world: World, order: Order) -> Draft:
    """The plan of an order. Raises a `Refused` that says why there is none."""
    return draft(world, order, STEPS)


def carry_out(
    world: World,
    order: Order,
    *,
    shown: str = "",
    perform: Callable[[Call, Callable[[], object]], object] = directly,
    observer: events.Observer = events.unobserved,
) -> Saga:
    """Run an order to its end; `shown` is the digest of the plan that a person agreed to.

    Returns the closed saga, whatever its end. Raises a `Refused` where it never began.
    An order that was given before, by its key, is not carried out again: its end is told.
    """
    ended = outcome(world, order)
    if ended is not None:
        return ended
    try:
        return _carry_out(world, order, shown, perform, observer)
    except Refused:
        # The same order may have been faster, in another process, since we looked.
        ended = outcome(world, order)
        if ended is None:
            raise
        return ended


def _carry_out(
    world: World,
    order: Order,
    shown: str,
    perform: Callable[[Call, Callable[[], object]], object],
    observer: events.Observer,
) -> Saga:
    order = _after_safety(world, order)
    drafted = plan(world, order)
    if shown and drafted.plan.digest != shown:
        raise PlanChanged(
            "The system has moved since the plan was shown.",
            remedy="Look at the new plan.",
        )
    run = partial(_run, world, perform=perform, observer=observer)
    if not drafted.plan.safe:
        return run(order, drafted)
    _refuse_ahead(world, order, drafted)
    safe = _to_safety(order, drafted)
    saga = run(safe, plan(world, safe))
    if saga.state is not SagaState.COMPLETED:
        return saga
    rest = replace(order, base=drafted.plan.base)
    return run(rest, plan(world, rest))


_QUICK = tuple(row for row in STEPS if row.prove is not contents.data_meet_expectations)
"""What reads whole tables waits until the bad release does not serve any more."""


def _refuse_ahead(world: World, order: Order, drafted: Draft) -> None:
    """Nothing moves to safety for a target that can be seen now to be out of reach."""
    refusals = preflight(world, drafted, order, _QUICK).refusals
    if refusals:
        raise Refused(" ".join(refusals), remedy="Nothing was touched: choose another target.")


def _after_safety(world: World, order: Order) -> Order:
    """The order as it goes on where its first half is done: it died in between."""
    safe = world.journal.saga_by_key(world.system, safe_key(order))
    if safe is None or safe.state is not SagaState.COMPLETED:
        return order
    return replace(order, base=order.base or safe.source)


def _to_safety(order: Order, drafted: Draft) -> Order:
    """The saga before the saga: what is bad does not serve while its successor is made.

    It is a saga of its own, so what fails afterwards is taken back to the safe
    release and never to the bad one.
    """
    return Order(
        Level.SYSTEM,
        by=order.by,
        to=drafted.plan.safe,
        reason=f"safe while level {order.level} is prepared; {order.reason}".rstrip("; "),
        accept_unproved=bool(order.safe),
        key=safe_key(order),
    )


def _run(
    world: World,
    order: Order,
    drafted: Draft,
    *,
    perform: Callable[[Call, Callable[[], object]], object],
    observer: events.Observer,
) -> Saga:
    whole = drafted.composed and not drafted.target.unmade
    saga, lease = world.journal.open_saga(
        drafted.plan,
        by=order.by,
        reason=order.reason,
        key=order.key,
        composed=drafted.target if whole else None,
    )
    if saga.state is not SagaState.OPEN:
        return saga
    events.shielded(observer)(events.SagaOpened(saga))
    engine = Engine(
        replace(world, lease=lease), STEPS, perform=patiently(perform), observer=observer
    )
    return engine.run(drafted.move(saga.id, order), drafted.plan, lease)
