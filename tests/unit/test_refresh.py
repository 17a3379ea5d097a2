"""A refresh: today's data under the live pipelines, and under those of the release before."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

from ebbtide.core.default_target import proved_good
from ebbtide.core.engine import directly
from ebbtide.core.errors import AlreadyLive, GateNotPassed
from ebbtide.core.gates import Finding, failed
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Pin, Release
from ebbtide.core.saga import Level, SagaState
from ebbtide.testing import FakeContents, FakeLayer, FakeMaker
from flows import flow_run
from flows import refresh as as_flow
from flows.order import carry_out, plan
from flows.refreshing import Refreshed, refresh, to_be_refreshed
from tests.conftest import Fakes


@pytest.fixture
def growing(make_fakes: Callable[..., Fakes]) -> Fakes:
    """The good release was promoted, then the bad one; their one table trains and grows."""
    made = make_fakes()
    data = made.world.layers["data"]
    assert isinstance(data, FakeLayer)
    data._at = lambda _version: {"role": "training"}
    good = resolve(made.world, {})
    bad = resolve(made.world, {layer: {"main": "2"} for layer in made.world.layers})
    for release in (good, bad):
        record(made.world, release, by="tester")
        assert made.promote(release).state is SagaState.COMPLETED
    grown(made, "3")
    return Fakes(made.world, good, bad)


def grown(fakes: Fakes, version: str) -> None:
    data = fakes.world.layers["data"]
    assert isinstance(data, FakeLayer)
    data.newest = version


def refreshed(fakes: Fakes) -> Refreshed:
    return refresh(
        fakes.world, partial(carry_out, fakes.world, fakes.order(Level.REFRESH)), by="tester"
    )


def live(fakes: Fakes) -> Release:
    return fakes.world.journal.release(fakes.live())


def maker(fakes: Fakes) -> FakeMaker:
    found = fakes.world.layers["features"]
    assert isinstance(found, FakeMaker)
    return found


def test_the_live_features_are_of_todays_data_and_nothing_else_changes(growing: Fakes) -> None:
    found = refreshed(growing)
    assert found.saga and found.saga.state is SagaState.COMPLETED, found.saga and found.saga.why
    now = live(growing)
    assert now.pins("data")[0].at["version"] == "3"
    assert now.pins("features")[0].at["trained_on"] == now.pins("data")[0].digest
    same = set(now.layers) - {"data", "features"}
    assert {layer: now.pins(layer) for layer in same} == {
        layer: growing.bad.pins(layer) for layer in same
    }
    assert growing.world.journal.evidence(now.id).refreshes == growing.bad.id
    assert growing.world.journal.quarantined("fake") == {}, "nothing was bad"
    assert growing.world.journal.verify() == []


def test_a_rollback_after_it_takes_the_release_before_over_todays_data(growing: Fakes) -> None:
    found = refreshed(growing)
    before = growing.world.journal.release(found.before)
    assert found.is_new and before.pins("model") == growing.good.pins("model")
    assert before.pins("features")[0].at["trained_on"] == live(growing).pins("data")[0].digest
    evidence = growing.world.journal.evidence(before.id)
    assert (evidence.refreshes, evidence.composed) == (growing.good.id, True)
    good = proved_good(growing.world)
    assert good.index(before.id) < good.index(growing.good.id)
    saga = carry_out(growing.world, growing.order())
    assert (saga.state, saga.target) == (SagaState.COMPLETED, before.id), saga.why
    assert live(growing).pins("features") == before.pins("features")


def test_each_day_makes_a_newer_one_and_the_newest_is_taken(growing: Fakes) -> None:
    first = refreshed(growing)
    grown(growing, "4")
    second = refreshed(growing)
    assert second.before != first.before
    assert growing.world.journal.evidence(second.before).refreshes == first.before
    assert plan(growing.world, growing.order()).target.id == second.before


def test_where_nothing_is_new_nothing_is_made(growing: Fakes) -> None:
    refreshed(growing)
    made, sagas = maker(growing).makings, len(growing.world.journal.sagas("fake"))
    again = refreshed(growing)
    assert again.saga is None and not again.is_new and again.moved and not again.why
    assert (maker(growing).makings, len(growing.world.journal.sagas("fake"))) == (made, sagas)
    with pytest.raises(AlreadyLive):
        plan(growing.world, growing.order(Level.REFRESH))


def test_after_the_cool_down_the_release_before_is_left_alone(growing: Fakes) -> None:
    rule = replace(growing.world.policy.retention, cool_down=0.0)
    world = replace(growing.world, policy=replace(growing.world.policy, retention=rule))
    assert to_be_refreshed(world) is None and to_be_refreshed(growing.world) == growing.good
    found = refreshed(Fakes(world, growing.good, growing.bad))
    assert found.moved and found.before == ""


def long_ago(fakes: Fakes, folder: Path, epochs: int) -> Fakes:
    """The same with the first tenures two hours longer, where an hour proves a release good."""
    with closing(sqlite3.connect(folder / "journal.db")) as database, database:
        database.execute(
            "UPDATE tenures SET since = since - 7200000000 * (? - epoch + 1), "
            "until = until - 7200000000 * (? - epoch) WHERE epoch <= ?",
            (epochs, epochs, epochs),
        )
    policy = replace(fakes.world.policy, proved_after=3600.0)
    return Fakes(replace(fakes.world, policy=policy), fakes.good, fakes.bad)


def test_a_refresh_that_has_not_shown_itself_good_is_doubted_before_its_release(
    growing: Fakes, tmp_path: Path
) -> None:
    found = refreshed(growing)
    bad = live(growing)
    later = long_ago(growing, tmp_path, 2)
    saga = carry_out(later.world, later.order())
    assert (saga.state, saga.target) == (SagaState.COMPLETED, growing.bad.id), saga.why
    assert bad.id in later.world.journal.quarantined("fake")
    assert growing.bad.id not in later.world.journal.quarantined("fake")
    further = plan(later.world, later.order()).target
    assert further.id == found.before, "its data were not what was bad"


def test_a_refresh_of_a_release_that_has_shown_nothing_is_left_with_it(
    growing: Fakes, tmp_path: Path
) -> None:
    found = refreshed(growing)
    later = long_ago(growing, tmp_path, 1)
    assert plan(later.world, later.order()).target.id == found.before


def test_after_the_cool_down_a_refresh_is_doubted_and_not_its_release(growing: Fakes) -> None:
    refreshed(growing)
    grown(growing, "4")
    first = live(growing)
    refreshed(growing)
    rule = replace(growing.world.policy.retention, cool_down=0.0)
    world = replace(growing.world, policy=replace(growing.world.policy, retention=rule))
    later = Fakes(world, growing.good, growing.bad)
    assert plan(later.world, later.order()).target == first
    assert carry_out(later.world, later.order()).state is SagaState.COMPLETED
    assert live(later) == first
    further = plan(later.world, later.order()).target
    assert further.pins("model") == growing.good.pins("model")


def test_each_level_goes_back_over_what_a_refresh_changed_only_where_it_can(
    growing: Fakes,
) -> None:
    refreshed(growing)
    model = plan(growing.world, growing.order(Level.MODEL)).target
    assert model.pins("model") == growing.good.pins("model")
    data = plan(growing.world, growing.order(Level.DATA))
    assert data.target.pins("data") == growing.bad.pins("data"), "not those of the release before"
    pipelines = plan(growing.world, growing.order(Level.FEATURES)).target
    assert pipelines.pins("features")[0].at["version"] == "1"


def test_features_that_fail_their_suite_go_nowhere(growing: Fakes) -> None:
    contents = growing.world.contents
    assert isinstance(contents, FakeContents)
    contents.examine_features = lambda pin: failed("empty")  # type: ignore[method-assign]  # the fake is told
    found = refreshed(growing)
    assert found.saga and found.saga.state is SagaState.TAKEN_BACK and "empty" in found.saga.why
    assert growing.live() == growing.bad.id
    assert plan(growing.world, growing.order()).target == growing.good


def test_what_fails_of_the_release_before_is_told_and_stands_for_nothing(growing: Fakes) -> None:
    contents = growing.world.contents
    assert isinstance(contents, FakeContents)

    def only_of_the_live_pipeline(pin: Pin) -> Finding:
        at = getattr(pin, "at", {})
        return FakeContents().examine_features(pin) if at["version"] == "2" else failed("empty")

    contents.examine_features = only_of_the_live_pipeline  # type: ignore[method-assign]  # the fake is told
    found = refreshed(growing)
    assert found.moved and "empty" in found.why and not found.is_new
    assert plan(growing.world, growing.order()).target == growing.good


def test_a_refresh_that_was_taken_back_is_no_target(growing: Fakes) -> None:
    serving = growing.world.serving
    serving.wrong = True
    found = refreshed(growing)
    assert found.saga and found.saga.state is SagaState.TAKEN_BACK, "its answers are not proved"
    assert found.saga.target not in proved_good(growing.world)


def test_where_making_fails_the_live_release_goes_on(growing: Fakes) -> None:
    maker(growing).fails = "no stage"
    found = refreshed(growing)
    assert found.saga and found.saga.state is SagaState.TAKEN_BACK
    assert growing.live() == growing.bad.id
    with pytest.raises(GateNotPassed):
        maker(growing).make(growing.good.pins("features")[0], growing.good, print)


def test_the_flow_says_what_it_came_to(growing: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_run, "as_task_run", directly)
    monkeypatch.setattr(as_flow, "as_task_run", directly)
    monkeypatch.setattr(as_flow, "open_named", lambda *_names: growing.world)
    away = {
        PREFECT_API_URL: "http://127.0.0.1:9/api",
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }
    with temporary_settings(away):
        states = [asyncio.run(as_flow.refresh_features.fn("fake")) for _ in range(2)]
        maker(growing).fails = "no stage"
        grown(growing, "4")
        states.append(asyncio.run(as_flow.refresh_features.fn("fake")))
    assert [state.name for state in states] == ["Refreshed", "NothingNew", "TakenBack"]
    assert "refreshed as well" in (states[0].message or "")
