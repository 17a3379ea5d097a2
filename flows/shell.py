"""Where a command line decides whether Prefect shows a saga, or the saga goes without it.

Imports nothing of Prefect before it is known to be up: that takes seconds.
"""

import logging
import os
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.request import urlopen

from ebbtide.core import events
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.saga import Saga
from flows import order as orders

_log = logging.getLogger(__name__)

_API = "PREFECT_API_URL"
_WITHIN = 0.5
"""Seconds that looking for Prefect may take."""


def carry_out(
    world: World, order: Order, *, shown: str = "", observer: events.Observer = events.unobserved
) -> Saga:
    """Run an order to its end in this process: as a flow run where Prefect is up, else without.

    Same outcome and same errors as `flows.order.carry_out`, whatever becomes of Prefect meanwhile.
    """
    if prefect_is_up():
        # The command line shows the progress itself. Prefect reads this when it is imported.
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        try:
            from flows.in_process import carry_out as as_flow_run
        except Exception:  # noqa: BLE001 - a broken Prefect is no reason not to roll back
            _log.warning("Prefect cannot be imported: going without it.", exc_info=True)
        else:
            return as_flow_run(world, order, shown=shown, observer=observer)
    return orders.carry_out(world, order, shown=shown, observer=observer)


def prefect_is_up() -> bool:
    """Whether the Prefect server that `PREFECT_API_URL` names is healthy. Takes 0.5 s at most.

    False where the variable is not set: nobody asked for Prefect then.
    """
    url = os.environ.get(_API, "").rstrip("/")
    if not url.startswith(("http://", "https://")):
        return False
    answers: SimpleQueue[bool] = SimpleQueue()
    # In a thread, because looking a name up knows no time limit.
    Thread(target=lambda: answers.put(_healthy(f"{url}/health")), daemon=True).start()
    try:
        return answers.get(timeout=_WITHIN)
    except Empty:
        return False


def _healthy(url: str) -> bool:
    try:
        with urlopen(url, timeout=_WITHIN) as answer:  # noqa: S310 - only http and https come here
            return bool(answer.status == 200 and answer.read(16).strip() == b"true")
    except (OSError, ValueError):
        return False
