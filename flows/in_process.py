"""An order carried out as a flow run of this very process, for as long as Prefect keeps up."""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

from httpx import Response
from prefect import Flow, State
from prefect.context import AsyncClientContext
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from ebbtide.core import events
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Saga
from flows import order as orders
from flows.brief_events import BriefEvents
from flows.flow_run import Perform, WentWithout, follow

_log = logging.getLogger(__name__)

FLOWS = {
    Level.MODEL: "rollback-model",
    Level.SYSTEM: "rollback-system",
    Level.FEATURES: "rollback-features",
    Level.DATA: "rollback-data",
    Level.PROMOTION: "promote",
    Level.REFRESH: "refresh",
}

_BEGINS_WITHIN = 5.0
"""Seconds until the saga goes without Prefect. Creating a flow run takes 0.2."""
_REPORTS_WITHIN = 3.0
"""Seconds that Prefect gets for the final state, once the saga is closed."""
_BUSY = 503
"""What Prefect's server answers while its database is locked by the events of another run."""
_AGAIN_AFTER = 0.2
"""Seconds until a busy server is asked once more. By itself, Prefect's client waits 2, then 4."""
_IMPATIENT = {
    PREFECT_CLIENT_MAX_RETRIES: 5,
    PREFECT_API_REQUEST_TIMEOUT: 5.0,
    # A request more before the first step, and one before each where that fails.
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    # The names and states of the task runs say it all; sending logs delays the process's end.
    PREFECT_LOGGING_TO_API_ENABLED: False,
}


def carry_out(world: World, order: Order, *, shown: str, observer: events.Observer) -> Saga:
    """Carry an order out as a flow run, or without one where Prefect does not begin it in time.

    It is carried out once. What it came to is what counts, not what Prefect made of it.
    Ctrl-C stops it at the next step and has it taken back.
    """
    attempt = _Attempt(world, order, shown, observer)
    # A thread that is left behind where Prefect hangs.
    showing = Thread(target=attempt.show, name="prefect", daemon=True)
    showing.start()
    if not attempt.begun():
        _log.warning("Prefect did not begin: going without it.")
        return orders.carry_out(world, order, shown=shown, observer=observer)
    try:
        return attempt.outcome()
    finally:
        showing.join(_REPORTS_WITHIN)


@dataclass
class _Attempt:
    """An order that waits for who claims it first: the flow run or the command line."""

    world: World
    order: Order
    shown: str
    observer: events.Observer
    claim: Lock = field(default_factory=Lock)
    """Acquired once, by who carries the order out; never released."""
    decided: Event = field(default_factory=Event)
    stop: Event = field(default_factory=Event)
    ended: "Future[Saga]" = field(default_factory=Future)

    def begun(self) -> bool:
        """Whether the flow run carries the order out. Where not, it never will."""
        try:
            self.decided.wait(_BEGINS_WITHIN)
        except KeyboardInterrupt:
            self.stop.set()
            if self.claim.acquire(blocking=False):
                raise
        return not self.claim.acquire(blocking=False)

    def outcome(self) -> Saga:
        """What it came to. Ctrl-C does not end the waiting, but the saga."""
        while True:
            try:
                return self.ended.result()
            except KeyboardInterrupt:
                if self.ended.done():
                    raise
                self.stop.set()

    def show(self) -> None:
        """Run the flow."""
        flow = Flow(self._body, name=FLOWS[self.order.level], validate_parameters=False)
        EventsWorker.set_client_override(BriefEvents)
        try:
            with temporary_settings(_IMPATIENT):
                asyncio.run(self._state(flow))
        except Exception as fault:  # noqa: BLE001 - Prefect shows, it does not decide
            _log.warning("Prefect could not show the saga: %r", fault)
        finally:
            self.decided.set()

    async def _state(self, flow: Flow[..., Coroutine[Any, Any, State[Any]]]) -> object:
        order = self.order
        asked = (self.world.system, order.to, order.reason, order.by)
        # The flow takes the client that it finds.
        async with AsyncClientContext(httpx_settings={"event_hooks": {"response": [_ask_again]}}):
            return await flow(*asked, return_state=True)

    async def _body(self, system: str, to: str, reason: str, ordered_by: str) -> State[Any]:
        return await follow(lambda: self.world, lambda _: self.order, run=self._run, stop=self.stop)

    def _run(
        self, world: World, order: Order, *, perform: Perform, observer: events.Observer
    ) -> Saga:
        if not self.claim.acquire(blocking=False):
            raise WentWithout
        self.decided.set()
        both = _both(self.observer, observer)
        try:
            saga = orders.carry_out(world, order, shown=self.shown, perform=perform, observer=both)
        except BaseException as fault:
            self.ended.set_exception(fault)
            raise
        self.ended.set_result(saga)
        return saga


async def _ask_again(answer: Response) -> None:
    """Have a busy server asked again soon, as if it had said so itself."""
    if answer.status_code == _BUSY:
        answer.headers.setdefault("Retry-After", str(_AGAIN_AFTER))


def _both(one: events.Observer, other: events.Observer) -> events.Observer:
    one, other = events.shielded(one), events.shielded(other)

    def tell(event: events.Event) -> None:
        one(event)
        other(event)

    return tell
