"""Every row of the table keeps the contract: do, undo, do, undo, the same world."""

from dataclasses import replace

import pytest

from ebbtide.core.planner import draft
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Move
from ebbtide.core.step import Step
from ebbtide.testing import round_trip
from flows.levels import STEPS
from tasks import quarantine, route
from tests.conftest import Fakes

DOING = [row for row in STEPS if row.do]


@pytest.mark.parametrize("row", DOING, ids=lambda row: row.name)
def test_a_row_makes_the_round_trip_on_the_fakes(fakes: Fakes, row: Step) -> None:
    order = fakes.order(Level.SYSTEM)
    drafted = draft(fakes.world, order, STEPS)
    saga, lease = fakes.world.journal.open_saga(drafted.plan, by="tester", reason="contract")
    world = replace(fakes.world, lease=lease)
    if row.name == "route.keep":
        _switch(world, drafted.move(saga.id, order))
    if row.name == "effects.resume":
        _deny(world, drafted.move(saga.id, order))
    round_trip(world, row, drafted.move(saga.id, order))


def _deny(world: World, move: Move) -> None:
    """Effects are sent again only once the bad release sets none off any more."""
    quarantine.deny_source.do(world, move, None)


def _switch(world: World, move: Move) -> None:
    """Settling presumes that the route has moved."""
    route.switch.do(world, move, route.switch.remember(world, move))
