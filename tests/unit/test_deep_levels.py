"""Levels `features` and `data`: a safe release first, then what was made aside."""

from dataclasses import replace
from pathlib import Path

import pytest

from ebbtide.core.errors import NeverProved, Refused
from ebbtide.core.planner import Order
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, SagaState
from ebbtide.testing import FakeMaker, fake_world
from ebbtide.testing.fakes import FakeTables
from flows.order import carry_out, plan
from tests.conftest import Fakes


def _maker(fakes: Fakes, layer: str) -> FakeMaker:
    adapter = fakes.world.layers[layer]
    assert isinstance(adapter, FakeMaker)
    return adapter


def _served(fakes: Fakes) -> list[str]:
    """Ids of the releases that served, oldest first."""
    return [tenure.release for tenure in reversed(fakes.world.journal.tenures(fakes.world.system))]


def _live(fakes: Fakes) -> Release:
    return fakes.world.journal.release(fakes.live())


def test_the_good_release_serves_while_features_and_model_are_made(fakes: Fakes) -> None:
    saga = carry_out(fakes.world, fakes.order(Level.FEATURES))
    assert saga.state is SagaState.COMPLETED, saga.why
    assert _served(fakes) == [fakes.good.id, fakes.bad.id, fakes.good.id, fakes.live()]
    live = _live(fakes)
    assert not live.unmade and saga.target == live.id
    assert live.pins("config") == fakes.bad.pins("config"), "the other layers are the base's"
    assert live.pins("features")[0].at["version"] == "1"
    assert live.pins("model")[0].at["trained_on"] == live.pins("features")[0].digest
    assert list(fakes.world.journal.quarantined("fake")) == [fakes.bad.id]


def test_what_was_made_before_is_found_again(fakes: Fakes) -> None:
    order = fakes.order(Level.FEATURES)
    carry_out(fakes.world, order)
    makings = [_maker(fakes, layer).makings for layer in ("features", "model")]
    first = fakes.live()
    fakes.promote(fakes.good)
    drafted = plan(fakes.world, replace(order, base=fakes.bad.id))
    assert drafted.target.id == first and not drafted.target.unmade
    again = carry_out(fakes.world, replace(order, base=fakes.bad.id))
    assert again.state is SagaState.COMPLETED, again.why
    assert [_maker(fakes, layer).makings for layer in ("features", "model")] == makings == [1, 1]


@pytest.mark.parametrize("layer", ["features", "model"])
def test_where_making_fails_the_safe_release_goes_on(fakes: Fakes, layer: str) -> None:
    _maker(fakes, layer).fails = "the stage failed"
    saga = carry_out(fakes.world, fakes.order(Level.FEATURES))
    assert saga.state is SagaState.TAKEN_BACK and "the stage failed" in saga.why
    assert fakes.live() == fakes.good.id


def test_data_go_back_and_all_that_was_made_of_them(fakes: Fakes) -> None:
    saga = carry_out(fakes.world, fakes.order(Level.DATA, tables={"main": "1"}))
    assert saga.state is SagaState.COMPLETED, saga.why
    live, data = _live(fakes), fakes.world.layers["data"]
    assert (
        live.pins("data") == fakes.good.pins("data") and data.live("main") == live.pins("data")[0]
    )
    assert live.pins("features")[0].at["trained_on"] == live.pins("data")[0].digest
    assert live.pins("features")[0].at["version"] == "2", "the pipeline is the base's"


def test_the_live_release_may_be_left_serving(fakes: Fakes) -> None:
    saga = carry_out(fakes.world, fakes.order(Level.FEATURES, safe=fakes.bad.id))
    assert saga.state is SagaState.COMPLETED, saga.why
    assert _served(fakes) == [fakes.good.id, fakes.bad.id, fakes.live()]


def test_with_nothing_safe_to_serve_it_is_refused(fakes: Fakes) -> None:
    world = replace(fakes.world, policy=replace(fakes.world.policy, proved_after=1e9))
    with pytest.raises(NeverProved, match="safe"):
        plan(world, fakes.order(Level.FEATURES, features={"main": "3"}))


def test_an_order_that_died_after_its_first_half_goes_on_from_the_same_base(fakes: Fakes) -> None:
    order = fakes.order(Level.FEATURES, key="k")
    _maker(fakes, "features").fails = "killed"
    first = carry_out(fakes.world, replace(order, key="k/safe", level=Level.SYSTEM))
    assert first.state is SagaState.COMPLETED and fakes.live() == fakes.good.id
    _maker(fakes, "features").fails = ""
    saga = carry_out(fakes.world, order)
    assert saga.state is SagaState.COMPLETED, saga.why
    assert _live(fakes).pins("config") == fakes.bad.pins("config")
    assert carry_out(fakes.world, order) == saga, "the same order takes effect once"


def test_a_table_that_moved_on_since_the_release_goes_back_to_what_it_pins(fakes: Fakes) -> None:
    fakes.promote(fakes.good)
    data = fakes.world.layers["data"]
    data.meddle("main", data.pin("main", "9"))
    saga = carry_out(fakes.world, fakes.order(Level.DATA, to=fakes.good.id, base=fakes.good.id))
    assert saga.state is SagaState.COMPLETED, saga.why
    shows = data.live("main")
    assert shows and shows.digest == fakes.good.pins("data")[0].digest
    assert fakes.world.journal.quarantined("fake") == {}, "it was good, and is again"


def test_a_target_out_of_reach_is_refused_before_anything_moves_to_safety(fakes: Fakes) -> None:
    lost = fakes.world.layers["data"].pin("main", "1").digest
    fakes.world.layers["data"].lost.add(lost)
    with pytest.raises(Refused, match="gone"):
        carry_out(fakes.world, fakes.order(Level.DATA, tables={"main": "1"}))
    assert fakes.live() == fakes.bad.id and len(_served(fakes)) == 2


def test_only_the_tables_that_were_named_are_restored(tmp_path: Path) -> None:
    world = fake_world(tmp_path)
    tables = FakeTables("data", ("one", "two"), at=lambda _: {"role": "training"})
    world = replace(world, layers={**world.layers, "data": tables})
    for version in ("1", "2"):
        asks = {name: {"main": version} for name in world.layers if name != "data"}
        found = resolve(world, {**asks, "data": {"one": version, "two": version}})
        record(world, found, by="t")
        carry_out(world, Order(Level.PROMOTION, by="t", to=found.id))
    for name in ("one", "two"):
        tables.meddle(name, tables.pin(name, "9"))
    saga = carry_out(world, Order(Level.DATA, by="t", tables={"one": "1"}))
    assert saga.state is SagaState.COMPLETED, saga.why
    shown = {name: pin.at["version"] for name in tables.names if (pin := tables.live(name))}
    assert shown == {"one": "1", "two": "9"}, "honest appends stay"
    world.journal.close()
