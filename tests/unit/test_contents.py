"""The gates on tables and features: what they look at, and what stops which level."""

from dataclasses import replace
from typing import Any

import pytest

from ebbtide.core.errors import EbbtideError
from ebbtide.core.gates import Finding, Verdict, failed, inconclusive
from ebbtide.core.planner import preflight
from ebbtide.core.ports import World
from ebbtide.core.recording import record
from ebbtide.core.release import Pin, Release
from ebbtide.core.saga import ROLLBACKS, Level, Move, SagaState
from ebbtide.testing import FakeContents, FakeLayer, FakeMaker
from flows.levels import STEPS
from flows.order import carry_out, plan
from tasks import contents
from tests.conftest import Fakes


def looks(world: World) -> FakeContents:
    assert isinstance(world.contents, FakeContents)
    return world.contents


def maker(world: World, layer: str) -> FakeMaker:
    adapter = world.layers[layer]
    assert isinstance(adapter, FakeMaker)
    return adapter


def move(fakes: Fakes, level: Level, target: Release, **more: Any) -> Move:
    made = Move("s", "fake", level, fakes.good, target, 1, "tester", "", base=fakes.bad)
    return replace(made, **more)


def features(release: Release) -> Pin:
    return release.pins("features")[0]


# Tables


def test_bad_rows_of_the_old_version_refuse_the_rollback_before_anything_moves(
    fakes: Fakes,
) -> None:
    data = fakes.world.layers["data"]
    assert isinstance(data, FakeLayer)
    looks(fakes.world).finds[fakes.good.pins("data")[0].digest] = failed("113 rows are negative")
    order = fakes.order(Level.DATA, tables={"main": "1"}, safe=fakes.bad.id)
    saga = carry_out(fakes.world, order)
    assert saga.state is SagaState.REFUSED and "113 rows are negative" in saga.why
    assert fakes.live() == fakes.bad.id and data.moves == []
    assert maker(fakes.world, "features").makings == 0


def test_the_plan_shows_that_the_old_version_would_be_refused(fakes: Fakes) -> None:
    looks(fakes.world).finds[fakes.good.pins("data")[0].digest] = inconclusive("no rows")
    order = fakes.order(Level.DATA, tables={"main": "1"})
    shown = preflight(fakes.world, plan(fakes.world, order), order, STEPS)
    assert any("no rows" in refusal for refusal in shown.refusals)


def test_tables_that_a_safe_release_has_already_are_looked_at_all_the_same(fakes: Fakes) -> None:
    """The safe release serves by now: against it alone nothing would change."""
    looks(fakes.world).finds[fakes.good.pins("data")[0].digest] = failed("bad rows")
    target = fakes.bad.with_pins("data", *fakes.good.pins("data"))
    finding = contents.data_meet_expectations(fakes.world, move(fakes, Level.DATA, target))
    assert finding.verdict is Verdict.FAILED


def test_a_table_that_nobody_changes_is_not_looked_at(fakes: Fakes) -> None:
    looks(fakes.world).finds[fakes.bad.pins("data")[0].digest] = failed("never asked")
    same = move(fakes, Level.DATA, fakes.bad, source=fakes.bad)
    assert contents.data_meet_expectations(fakes.world, same).passed


# Features


@pytest.mark.parametrize("gate", ["suite", "distribution"])
def test_features_that_are_not_good_stop_before_a_model_is_trained(fakes: Fakes, gate: str) -> None:
    world, order = fakes.world, fakes.order(Level.FEATURES, features={"main": "1"})
    made = _made_features(fakes)
    if gate == "suite":
        looks(world).finds[made.digest] = failed("rides are negative")
    else:
        looks(world).differs.add(made.digest)
    saga = carry_out(world, order)
    assert saga.state is SagaState.TAKEN_BACK and "features" in saga.why
    assert fakes.live() == fakes.good.id, "the safe release goes on"
    assert maker(world, "model").makings == 0


def _made_features(fakes: Fakes) -> Pin:
    """What the good pipeline makes of the bad release's data."""
    adapter = maker(fakes.world, "features")
    recipe = adapter.recipe("main", fakes.bad, "1")
    made = adapter.make(recipe, fakes.bad, lambda _line: None)
    adapter.made.clear()
    adapter.makings = 0
    return made


def test_they_are_compared_with_those_that_their_pipeline_was_proved_with(fakes: Fakes) -> None:
    carry_out(fakes.world, fakes.order(Level.FEATURES, features={"main": "1"}))
    made = fakes.world.journal.release(fakes.live())
    assert looks(fakes.world).compared == [(features(made).digest, features(fakes.good).digest)]


def test_a_refresh_is_compared_with_what_is_live(fakes: Fakes) -> None:
    target = fakes.bad.with_pins("features", Pin("main", "f" * 64, {"version": "2"}))
    refresh = move(fakes, Level.REFRESH, target, source=fakes.bad)
    assert contents.features_are_like_before(fakes.world, refresh).passed
    assert looks(fakes.world).compared == [("f" * 64, features(fakes.bad).digest)]


def test_the_release_that_is_gone_back_from_is_no_measure(fakes: Fakes) -> None:
    target = fakes.bad.with_pins("features", Pin("main", "f" * 64, {"version": "2"}))
    finding = contents.features_are_like_before(fakes.world, move(fakes, Level.FEATURES, target))
    assert finding.verdict is Verdict.INCONCLUSIVE and "nothing to compare" in finding.why
    accepted = move(fakes, Level.FEATURES, target, accept_unproved=True)
    assert contents.features_are_like_before(fakes.world, accepted).passed


def test_over_old_data_the_release_with_those_data_is_the_measure(fakes: Fakes) -> None:
    """Between it and the bad one another was made of bad rows, by the same pipeline."""
    poisoned = fakes.bad.with_pins("config", *fakes.good.pins("config"))
    honest = fakes.bad.with_pins("data", *fakes.good.pins("data"))
    honest = honest.with_pins("features", Pin("main", "a" * 64, {"version": "2"}))
    honest = honest.with_pins("model", Pin("main", "d" * 64, {"trained_on": "a" * 64}))
    for release in (honest, poisoned, fakes.bad):
        record(fakes.world, release, by="tester")
        assert fakes.promote(release).state is SagaState.COMPLETED
    target = honest.with_pins("features", Pin("main", "f" * 64, {"version": "2"}))
    contents.features_are_like_before(fakes.world, move(fakes, Level.DATA, target))
    assert looks(fakes.world).compared[-1] == ("f" * 64, "a" * 64)


def test_a_quarantined_release_is_no_measure(fakes: Fakes) -> None:
    carry_out(fakes.world, fakes.order())  # quarantines the bad one
    target = fakes.good.with_pins("features", Pin("main", "f" * 64, {"version": "2"}))
    away = move(fakes, Level.FEATURES, target, base=fakes.good)
    assert not contents.features_are_like_before(fakes.world, away).passed


SIGNATURE = '[{"name": "rides", "type": "double"}, {"name": "hour", "type": "long"}]'


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ('[{"name": "rides", "type": "double"}, {"name": "hour", "type": "int64"}]', True),
        ('[{"name": "rides", "type": "string"}, {"name": "hour", "type": "int64"}]', False),
        ('[{"name": "rides", "type": "double"}]', False),
    ],
    ids=["same", "another type", "a column is gone"],
)
def test_the_features_must_have_what_the_model_reads(fakes: Fakes, schema: str, fits: bool) -> None:
    before = '[{"name": "rides", "type": "double"}, {"name": "hour", "type": "int64"}]'
    base = fakes.bad.with_pins("features", Pin("main", "b" * 64, {"schema": before}))
    target = base.with_pins("features", Pin("main", "f" * 64, {"schema": schema}))
    target = target.with_pins("model", Pin("main", "m" * 64, {"inputs": SIGNATURE}))
    finding = contents.features_fit_signature(
        fakes.world, move(fakes, Level.REFRESH, target, base=base)
    )
    assert finding.passed is fits, finding.why


def test_a_column_that_requests_bring_is_not_missed(fakes: Fakes) -> None:
    schema = '[{"name": "hour", "type": "int64"}]'
    base = fakes.bad.with_pins("features", Pin("main", "b" * 64, {"schema": schema}))
    target = base.with_pins("features", Pin("main", "f" * 64, {"schema": schema}))
    target = target.with_pins("model", Pin("main", "m" * 64, {"inputs": SIGNATURE}))
    refresh = move(fakes, Level.REFRESH, target, base=base)
    assert contents.features_fit_signature(fakes.world, refresh).passed


# Freshness


def test_features_that_are_too_old_do_not_go_live(fakes: Fakes) -> None:
    looks(fakes.world).limits["main"] = 3600.0
    now = fakes.world.journal.now()
    for age, passes in ((60, True), (3599, True), (7200, False)):
        pin = Pin("main", "f" * 64, {"made_at": str(now - age)})
        target = fakes.good.with_pins("features", pin)
        finding = contents.features_are_fresh(fakes.world, move(fakes, Level.SYSTEM, target))
        assert finding.passed is passes
    assert "2 hours old" in finding.why and "ebbtide refresh fake" in finding.remedy


@pytest.mark.parametrize("level", ROLLBACKS)
def test_every_level_is_refused_what_is_too_old(fakes: Fakes, level: Level) -> None:
    names = [step.name for step in STEPS if level in step.levels]
    assert "contents.features_are_fresh" in names
    looks(fakes.world).limits["main"] = 1e-6
    if level is Level.SYSTEM:
        saga = carry_out(fakes.world, fakes.order())
        assert saga.state is SagaState.REFUSED and "ebbtide refresh" in saga.why
        assert fakes.live() == fakes.bad.id


def test_the_first_record_of_features_tells_their_age_where_they_do_not(fakes: Fakes) -> None:
    looks(fakes.world).limits["main"] = 3600.0
    recorded = move(fakes, Level.SYSTEM, fakes.good, source=fakes.bad)
    assert contents.features_are_fresh(fakes.world, recorded).passed
    looks(fakes.world).limits["main"] = 1e-6
    assert not contents.features_are_fresh(fakes.world, recorded).passed


@pytest.mark.parametrize("made_at", ["nan", "inf", "-inf", "9e99", "yesterday", ""])
def test_a_time_that_is_none_is_not_passed(fakes: Fakes, made_at: str) -> None:
    looks(fakes.world).limits["main"] = 3600.0
    pin = Pin("main", "f" * 64, {"made_at": made_at})
    target = fakes.good.with_pins("features", pin)
    finding = contents.features_are_fresh(fakes.world, move(fakes, Level.SYSTEM, target))
    assert finding.verdict is Verdict.INCONCLUSIVE


def test_what_is_live_already_is_not_refused_for_its_age(fakes: Fakes) -> None:
    """Else a bad model goes on serving because the features beside it are old too."""
    looks(fakes.world).limits["main"] = 1e-6
    saga = carry_out(fakes.world, fakes.order(Level.MODEL, models={"main": "1"}))
    assert "fresh" not in saga.why


def test_without_a_limit_any_age_goes(fakes: Fakes) -> None:
    pin = Pin("main", "f" * 64, {"made_at": "0"})
    target = fakes.good.with_pins("features", pin)
    finding = contents.features_are_fresh(fakes.world, move(fakes, Level.SYSTEM, target))
    assert finding.passed and "fresh_within" in finding.why


def test_a_reader_that_raises_is_not_passed(fakes: Fakes) -> None:
    class Broken(FakeContents):
        def examine_table(self, pin: Pin) -> Finding:
            raise EbbtideError(f"cannot look at {pin.name}")

    world = replace(fakes.world, contents=Broken())
    saga = carry_out(world, fakes.order(Level.DATA, tables={"main": "1"}, safe=fakes.bad.id))
    assert saga.state is SagaState.REFUSED and "cannot look at main" in saga.why
