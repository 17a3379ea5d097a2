"""The contract of the rows that move the layers of the user's own, on a real adapter."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ebbtide.core.errors import UndoConflict
from ebbtide.core.planner import Order
from ebbtide.core.release import Release
from ebbtide.core.saga import BUILT_IN, OTHERS, Level, Move
from ebbtide.core.step import Step
from ebbtide.testing import FakeLayer, layer_contract, round_trip
from flows.levels import STEPS
from flows.order import plan
from tasks import others
from tests.conftest import Fakes
from tests.flag_shop import Shop, build

ROWS = [row for row in STEPS if row.layer == OTHERS]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    made = build(tmp_path, monkeypatch)
    yield made
    made.world.journal.close()


def test_the_example_adapter_keeps_the_contract(shop: Shop) -> None:
    shop.versions(1)
    shop.versions(2)
    before = shop.shown()
    for name in ("checkout", "search"):
        layer_contract(shop.world.layers["flags"], name)
    assert shop.shown() == before


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_of_other_layers_makes_the_round_trip_on_a_real_adapter(
    shop: Shop, row: Step
) -> None:
    first, second = shop.versions(1), shop.versions(2)
    shop.order(Level.PROMOTION, to=first.id)
    order = Order(Level.PROMOTION, by="tester", to=second.id)
    drafted = plan(shop.world, order)
    saga, lease = shop.world.journal.open_saga(drafted.plan, by="tester", reason="contract")
    round_trip(replace(shop.world, lease=lease), row, drafted.move(saga.id, order))


def test_the_table_names_every_built_in_layer_and_all_others_in_one() -> None:
    assert {row.layer for row in STEPS} == {"", OTHERS, *BUILT_IN}


def test_a_row_of_other_layers_is_planned_only_where_one_changes(fakes: Fakes) -> None:
    names = [step.name for step in plan(fakes.world, fakes.order()).plan.steps]
    assert "others.follow" in names
    same = fakes.bad.with_pins("model", *fakes.good.pins("model"))
    move = _move(fakes, same)
    assert move.changed_layers(OTHERS) == ()
    both = _move(fakes, fakes.good)
    assert both.changed_layers(OTHERS) == ("flags", "rules")


def test_one_layer_that_cannot_return_does_not_keep_the_others_from_it(fakes: Fakes) -> None:
    move = _move(fakes, fakes.good)
    was = others.follow.remember(fakes.world, move)
    others.follow.do(fakes.world, move, was)
    flags, rules = (fakes.world.layers[name] for name in ("flags", "rules"))
    assert isinstance(rules, FakeLayer)
    theirs = rules.pin("main", "9")
    rules.meddle("main", theirs)
    with pytest.raises(UndoConflict, match="rules main"):
        others.return_all(fakes.world, move, was)
    assert flags.live("main") == fakes.bad.pin("flags", "main")
    assert rules.live("main") == theirs


def _move(fakes: Fakes, target: Release) -> Move:
    return Move("s", "fake", Level.SYSTEM, fakes.bad, target, 2, "tester", "")
