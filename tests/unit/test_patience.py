"""A store that is away for a moment is tried again, a few times and not for long."""

from collections.abc import Callable
from typing import Any

import pytest

from ebbtide.core.engine import Call, directly
from ebbtide.core.errors import Conflict, Unreachable
from ebbtide.core.saga import Level, Phase, SagaState
from ebbtide.testing import FakeLayer
from flows.order import carry_out
from tasks import patience
from tests.conftest import Fakes

CALL = Call("do", "settings.publish_config", Phase.CUT_OVER)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST", 0.001)


def _failing(times: int, fault: Exception) -> tuple[Callable[[], str], list[int]]:
    asked: list[int] = []

    def function() -> str:
        asked.append(1)
        if len(asked) <= times:
            raise fault
        return "done"

    return function, asked


@pytest.mark.parametrize("times", [0, 1, 3])
def test_it_is_tried_again_while_the_store_is_away(times: int) -> None:
    function, asked = _failing(times, Unreachable("away"))
    assert patience.patiently(directly)(CALL, function) == "done"
    assert len(asked) == times + 1


def test_after_a_few_attempts_it_stays_unreachable() -> None:
    function, asked = _failing(99, Unreachable("away"))
    with pytest.raises(Unreachable, match="away"):
        patience.patiently(directly)(CALL, function)
    assert len(asked) == 4


def test_nothing_else_is_tried_again() -> None:
    function, asked = _failing(1, Conflict("somebody else's"))
    with pytest.raises(Conflict):
        patience.patiently(directly)(CALL, function)
    assert len(asked) == 1


def test_the_budget_of_a_step_ends_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(patience._WITHIN, Phase.CUT_OVER, 0.0)
    function, asked = _failing(99, Unreachable("away"))
    with pytest.raises(Unreachable):
        patience.patiently(directly)(CALL, function)
    assert len(asked) == 2


def test_a_rollback_survives_a_store_that_is_away_for_a_moment(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = fakes.world.layers["config"]
    assert isinstance(layer, FakeLayer)
    move, faults = layer.move, [Unreachable("a moment"), Unreachable("another")]

    def flaky(*words: Any, **more: Any) -> None:
        if faults:
            raise faults.pop()
        move(*words, **more)

    monkeypatch.setattr(layer, "move", flaky)
    saga = carry_out(fakes.world, fakes.order(Level.SYSTEM))
    assert saga.state is SagaState.COMPLETED and not faults, saga.why
