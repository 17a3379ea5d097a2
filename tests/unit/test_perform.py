"""A call is carried out exactly once, whatever becomes of who shows it."""

from collections.abc import Callable

import pytest
from prefect.exceptions import Pause

from ebbtide.core.engine import Call
from ebbtide.core.errors import GateNotPassed
from ebbtide.core.gates import failed
from ebbtide.core.saga import Phase
from tasks import perform

CALL = Call("do", "route.switch", Phase.CUT_OVER)
Show = Callable[[Call, perform._Once], None]


def prefect_is_away(_call: Call, _once: perform._Once) -> None:
    raise ConnectionError("no server")


def prefect_suspends(_call: Call, _once: perform._Once) -> None:
    raise Pause


def prefect_forgets_to_call(_call: Call, _once: perform._Once) -> None:
    """As where a task run is cancelled before it begins."""


def prefect_fails_afterwards(_call: Call, once: perform._Once) -> None:
    once.call()
    raise ConnectionError("no server any more")


def prefect_swallows_what_is_raised(_call: Call, once: perform._Once) -> None:
    with pytest.raises(GateNotPassed):
        once.call()


def prefect_passes_on_what_is_raised(_call: Call, once: perform._Once) -> None:
    once.call()


@pytest.mark.parametrize(
    "show",
    [prefect_is_away, prefect_suspends, prefect_forgets_to_call, prefect_fails_afterwards],
    ids=lambda show: show.__name__,
)
def test_a_call_is_carried_out_once_though(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perform, "_shown", show)
    calls: list[str] = []

    def switch() -> str:
        calls.append("switched")
        return "done"

    assert perform.as_task_run(CALL, switch) == "done"
    assert calls == ["switched"]


@pytest.mark.parametrize(
    "show",
    [prefect_is_away, prefect_swallows_what_is_raised, prefect_passes_on_what_is_raised],
    ids=lambda show: show.__name__,
)
def test_what_a_call_raises_reaches_the_engine_once_though(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perform, "_shown", show)
    fault, calls = GateNotPassed("no"), []

    def switch() -> None:
        calls.append("tried")
        raise fault

    with pytest.raises(GateNotPassed) as raised:
        perform.as_task_run(CALL, switch)
    assert raised.value is fault
    assert calls == ["tried"]


def test_a_finding_that_is_not_passed_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perform, "_shown", prefect_is_away)

    assert perform.as_task_run(CALL, lambda: failed("cold")) == failed("cold")
