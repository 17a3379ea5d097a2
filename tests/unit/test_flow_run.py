"""What a flow run makes of its saga, where Prefect's server is not needed for it."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

from ebbtide.core import events
from ebbtide.core.engine import directly
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Saga, SagaState
from flows import flow_run
from flows.order import carry_out
from tests.conftest import Fakes


@pytest.fixture(autouse=True)
def nobody_to_show_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(flow_run, "as_task_run", directly)
    away = {
        PREFECT_API_URL: "http://127.0.0.1:9/api",
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }
    with temporary_settings(away):
        yield


class Pausing:
    """Carries orders out, and pauses when a step begins."""

    def __init__(self, at: str) -> None:
        self.at, self.reached, self.go_on = at, threading.Event(), threading.Event()

    def run(self, world: World, order: Any, **how: Any) -> Saga:
        return carry_out(world, order, **{**how, "observer": self.observe})

    def observe(self, event: events.Event) -> None:
        if isinstance(event, events.StepBegan) and event.name == self.at:
            self.reached.set()
            assert self.go_on.wait(60)


async def _cancelled(world: World, order: Any, pausing: Pausing) -> None:
    flow = asyncio.create_task(flow_run.follow(lambda: world, lambda _: order, run=pausing.run))
    await asyncio.to_thread(pausing.reached.wait, 60)
    flow.cancel()
    await asyncio.wait([flow], timeout=0.05)
    assert not flow.done(), "the flow run must not end before its saga"
    pausing.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await flow


def test_a_cancelled_flow_run_ends_once_its_saga_is_taken_back(fakes: Fakes) -> None:
    asyncio.run(_cancelled(fakes.world, fakes.order(), Pausing("model.repoint_alias")))

    saga = fakes.world.journal.sagas(fakes.world.system)[0]
    assert saga.state is SagaState.TAKEN_BACK
    assert "interrupted" in saga.why
    assert fakes.live() == fakes.bad.id


def test_a_flow_run_that_is_cancelled_while_it_settles_stays_at_the_target(fakes: Fakes) -> None:
    asyncio.run(_cancelled(fakes.world, fakes.order(), Pausing("quarantine.deny_source")))

    assert fakes.world.journal.sagas(fakes.world.system)[0].state is SagaState.COMPLETED
    assert fakes.live() == fakes.good.id


@pytest.mark.parametrize(
    ("state", "level", "name", "kind"),
    [
        (SagaState.COMPLETED, Level.SYSTEM, "RolledBack", "COMPLETED"),
        (SagaState.COMPLETED, Level.PROMOTION, "Promoted", "COMPLETED"),
        (SagaState.TAKEN_BACK, Level.SYSTEM, "TakenBack", "FAILED"),
        (SagaState.REFUSED, Level.MODEL, "Refused", "FAILED"),
        (SagaState.NEEDS_HUMAN, Level.MODEL, "NeedsHuman", "FAILED"),
    ],
)
def test_the_end_of_a_saga_names_the_flow_runs_end(
    state: SagaState, level: Level, name: str, kind: str, fakes: Fakes
) -> None:
    saga = fakes.world.journal.sagas(fakes.world.system)[0]
    end = flow_run.end_state(replace(saga, state=state, level=level, left=("call Ada",)))

    assert (end.name, end.type.value) == (name, kind)
    assert saga.id in (end.message or "")
    assert ("call Ada" in (end.message or "")) == (state is SagaState.NEEDS_HUMAN)
