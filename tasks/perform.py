"""How a step is carried out: as a Prefect task run, or directly where Prefect is away.

Prefect shows; it does not decide. Its `transaction()` and `on_rollback` are
not used: their state is in memory only, a failing step's own hook never runs,
and what a hook raises is swallowed.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ebbtide.core.engine import Call
from ebbtide.core.errors import EbbtideError
from ebbtide.core.gates import Finding

_log = logging.getLogger(__name__)


def as_task_run(call: Call, function: Callable[[], object]) -> object:
    """Carry a call out as a task run that is named after its row.

    Needs a flow run around it; works in any thread that has its context. A gate
    that is not passed shows as a failed task run with its verdict as the name of
    its state; the engine still gets the finding. The function runs exactly once,
    whatever Prefect does: where it fails before, directly; where after, it is ignored.
    """
    from prefect.exceptions import PrefectSignal

    once = _Once(function)
    try:
        _shown(call, once)
    except (Exception, PrefectSignal) as fault:  # noqa: BLE001 - Prefect does not decide
        if not once.ran or fault is not once.raised:
            _log.warning("Prefect could not show %s: %r", call.label, fault)
    return once.outcome()


@dataclass
class _Once:
    """A function that is called at most once, and what came of it."""

    function: Callable[[], object]
    ran: bool = False
    raised: BaseException | None = None
    returned: object = field(default=None)

    def call(self) -> None:
        self.ran = True
        try:
            self.returned = self.function()
        except BaseException as fault:
            self.raised = fault
            raise

    def outcome(self) -> object:
        """What it returned or raised, after calling it where nobody has yet."""
        if not self.ran:
            self.call()
        if self.raised is not None:
            raise self.raised
        return self.returned


def _shown(call: Call, once: _Once) -> None:
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.context import TagsContext

    def carry() -> Any:
        try:
            once.call()
        except EbbtideError as fault:
            return _named("Failed", str(fault))
        if isinstance(once.returned, Finding):
            return _named(once.returned.verdict.value.capitalize(), once.returned.why)
        return _named("TakenBack" if call.kind == "take back" else "Completed")

    shown = task(
        name=call.step,
        task_run_name=call.label,
        description=f"{call.kind}, in phase {call.phase.value}",
        retries=0,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(carry)
    # Without tags: for each tagged task run Prefect first asks its server for a
    # concurrency slot, so a dead server or a limit on a tag would hold the saga up.
    with TagsContext(current_tags=set()):
        shown(return_state=True)


def _named(name: str, message: str = "") -> Any:
    from prefect.states import Completed, Failed

    good = name in ("Passed", "Completed", "TakenBack")
    return (Completed if good else Failed)(name=name, message=message or None)
