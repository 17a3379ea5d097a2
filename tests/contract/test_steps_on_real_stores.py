"""The same contract on MLflow, DVC, Delta, git, the journal and a gateway."""

from dataclasses import replace

import pytest

from ebbtide.core.planner import Order
from ebbtide.core.saga import OTHERS, Level
from ebbtide.core.step import Step
from ebbtide.testing import round_trip
from flows.levels import STEPS
from flows.order import plan
from tasks import route
from tests.ride_pricing import Running


@pytest.fixture
def at_v1(pricing: Running) -> Running:
    """v1 serves after the others: nothing but its own projections stand."""
    pricing.order(to=pricing.release("v1").id)
    return pricing


DOING = [row for row in STEPS if row.do and row.layer != OTHERS]
"""This system has no layer of its own: `test_own_layers.py` has one."""


@pytest.mark.parametrize("row", DOING, ids=lambda row: row.name)
def test_a_row_makes_the_round_trip_on_real_stores(at_v1: Running, row: Step) -> None:
    order = Order(Level.PROMOTION, by="tester", to=at_v1.release("v2").id)
    drafted = plan(at_v1.world, order)
    saga, lease = at_v1.world.journal.open_saga(drafted.plan, by="tester", reason="contract")
    world, move = replace(at_v1.world, lease=lease), drafted.move(saga.id, order)
    if row.name == "route.keep":
        route.switch.do(world, move, route.switch.remember(world, move))
    round_trip(world, row, move)
