"""The plan is the truth: the default target, the rows, the refusals."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ebbtide.core.default_target import proved_good
from ebbtide.core.errors import (
    AlreadyLive,
    NeverProved,
    PlanChanged,
    Quarantined,
    Refused,
    SagaOpen,
    Unknown,
)
from ebbtide.core.planner import draft, preflight
from ebbtide.core.ports import Policy
from ebbtide.core.recording import record, resolve
from ebbtide.core.saga import Level, Phase, SagaState
from flows.levels import STEPS
from flows.order import carry_out, plan
from tests.conftest import Fakes


def test_the_default_target_is_the_last_proved_good_not_the_one_before(
    fakes: Fakes,
) -> None:
    third = resolve(fakes.world, {layer: {"main": "3"} for layer in fakes.world.layers})
    record(fakes.world, third, by="tester")
    impatient = replace(fakes.world, policy=replace(fakes.world.policy, proved_after=1e9))
    fakes.promote(third)
    assert plan(fakes.world, fakes.order()).target == fakes.bad
    with pytest.raises(NeverProved):
        plan(impatient, fakes.order())


def test_a_rollback_quarantines_so_that_the_next_goes_further_back(
    fakes: Fakes,
) -> None:
    assert carry_out(fakes.world, fakes.order()).state is SagaState.COMPLETED
    assert fakes.bad.id not in proved_good(fakes.world)
    with pytest.raises(Quarantined, match="quarantined"):
        fakes.promote(fakes.bad)


def test_the_plan_has_the_very_rows_that_run(fakes: Fakes) -> None:
    drafted = plan(fakes.world, fakes.order())
    saga = carry_out(fakes.world, fakes.order())
    steps = fakes.world.journal.steps(saga.id)
    assert [step.name for step in steps] == [step.name for step in drafted.plan.steps]
    switch = next(step for step in drafted.plan.steps if step.name == "model.repoint_alias")
    assert switch.takes_back and "main: 2" in switch.changes[0] and "→ 1" in switch.changes[0]


def test_a_layer_that_does_not_change_has_no_row(fakes: Fakes) -> None:
    only_model = fakes.bad.with_pins("model", *fakes.good.pins("model"))
    record(fakes.world, only_model, by="tester")
    order = fakes.order(Level.PROMOTION, to=only_model.id)
    layers = {step.layer for step in draft(fakes.world, order, STEPS).plan.steps if step.layer}
    assert layers == {"model"}


def test_a_training_table_stays_where_it_is(make_fakes: Callable[..., Fakes]) -> None:
    fakes = make_fakes()
    training = fakes.bad.pin("data", "main")
    assert training
    lineage = replace(training, at={**training.at, "role": "training"})
    moved = fakes.good.with_pins("data", lineage)
    record(fakes.world, moved, by="tester")
    fakes.promote(fakes.good)
    order = fakes.order(Level.PROMOTION, to=moved.id)
    assert "data" not in {step.layer for step in plan(fakes.world, order).plan.steps}


def test_estimates_come_from_recorded_runs(fakes: Fakes) -> None:
    assert plan(fakes.world, fakes.order()).plan.seconds is None
    carry_out(fakes.world, fakes.order())
    order = fakes.order(Level.SYSTEM, to=fakes.bad.id, accept_unproved=True)
    with pytest.raises(Quarantined):
        plan(fakes.world, order)
    promoted = fakes.world.journal.durations(fakes.world.system, Level.SYSTEM)
    assert promoted["route.switch"][0] > 0


def test_the_shallowest_level_is_named(fakes: Fakes) -> None:
    assert plan(fakes.world, fakes.order()).plan.shallowest is Level.SYSTEM
    only_model = fakes.bad.with_pins("model", fakes.world.layers["model"].pin("main", "3"))
    trained = replace(only_model.pins("model")[0], at={**fakes.bad.pins("model")[0].at})
    fitting = fakes.bad.with_pins("model", trained)
    record(fakes.world, fitting, by="tester")
    assert fakes.promote(fitting).state is SagaState.COMPLETED
    assert plan(fakes.world, fakes.order()).plan.shallowest is Level.MODEL


def test_a_model_alone_on_strange_features_is_refused_with_the_level_that_works(
    fakes: Fakes,
) -> None:
    moves = len(fakes.world.layers["model"].moves)
    order = fakes.order(Level.MODEL, models={"main": "1"})
    found = preflight(fakes.world, plan(fakes.world, order), order, STEPS)
    assert "Level `system` works" in found.refusals[0]
    assert fakes.good.short in found.refusals[0]
    saga = carry_out(fakes.world, order)
    assert saga.state is SagaState.REFUSED
    assert len(fakes.world.layers["model"].moves) == moves
    assert fakes.live() == fakes.bad.id


def test_a_model_that_fits_is_composed_and_recorded(fakes: Fakes) -> None:
    newer = replace(
        fakes.world.layers["model"].pin("main", "3"),
        at=dict(fakes.bad.pins("model")[0].at),
    )
    fitting = fakes.bad.with_pins("model", newer)
    record(fakes.world, fitting, by="tester")
    fakes.promote(fitting)
    saga = carry_out(fakes.world, fakes.order(Level.MODEL, to=fakes.bad.id))
    assert saga.state is SagaState.COMPLETED
    assert fakes.live() == fakes.bad.id
    assert {change.layer for change in plan(fakes.world, fakes.order()).plan.changes} > {"model"}


@pytest.mark.parametrize(
    ("wishes", "error", "says"),
    [
        ({"to": "abcdef123456"}, Unknown, "abcdef"),
        ({"to": "abc"}, Unknown, "abc"),
        ({"models": {"main": "1"}}, Refused, "Only level `model`"),
        ({"level": Level.MODEL, "models": {"other": "1"}}, Unknown, "no model other"),
        ({"level": Level.PROMOTION}, Refused, "needs the release"),
    ],
)
def test_a_bad_order_is_refused(
    fakes: Fakes, wishes: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan(fakes.world, replace(fakes.order(), **wishes))


def test_the_live_release_is_no_target(fakes: Fakes) -> None:
    with pytest.raises(AlreadyLive):
        plan(fakes.world, fakes.order(to=fakes.bad.id))


def test_a_system_that_serves_nothing_cannot_be_rolled_back(
    make_fakes: Callable[..., Fakes],
) -> None:
    made = make_fakes()
    with pytest.raises(Refused, match="serves no release yet"):
        plan(made.world, made.order())


def test_what_was_never_proved_needs_a_word(make_fakes: Callable[..., Fakes]) -> None:
    policy = Policy(proved_after=1e9, warm_within=0.2, switch_within=0.2)
    fakes = make_fakes(policy=policy)
    fakes.promote(fakes.good)
    fakes.promote(fakes.bad)
    with pytest.raises(NeverProved):
        carry_out(fakes.world, fakes.order(to=fakes.good.id))
    order = fakes.order(to=fakes.good.id, accept_unproved=True)
    assert carry_out(fakes.world, order).state is SagaState.COMPLETED


def test_a_second_rollback_is_refused_while_one_is_open(fakes: Fakes) -> None:
    drafted = plan(fakes.world, fakes.order())
    fakes.world.journal.open_saga(drafted.plan, by="tester", reason="")
    with pytest.raises(SagaOpen):
        carry_out(fakes.world, fakes.order())
    assert fakes.live() == fakes.bad.id


def test_a_plan_that_has_changed_since_it_was_shown_is_not_run(fakes: Fakes) -> None:
    with pytest.raises(PlanChanged):
        carry_out(fakes.world, fakes.order(), shown="0" * 64)
    assert fakes.live() == fakes.bad.id


def test_the_same_order_twice_takes_effect_once(fakes: Fakes) -> None:
    order = fakes.order(to=fakes.good.id, key="alert-7")
    first = carry_out(fakes.world, order)
    again = carry_out(fakes.world, order)
    assert again == first


def test_missing_content_refuses_before_anything_is_touched(fakes: Fakes) -> None:
    digest = fakes.good.pins("prompt")[0].digest
    fakes.world.layers["prompt"].lost.add(digest)
    saga = carry_out(fakes.world, fakes.order())
    assert saga.state is SagaState.REFUSED
    assert "prompt main" in saga.why
    phases = {step.phase for step in fakes.world.journal.steps(saga.id)}
    assert phases == {Phase.PREFLIGHT}


def test_a_replica_that_cannot_load_the_target_stops_the_cut_over(fakes: Fakes) -> None:
    fakes.world.serving.refuses[fakes.good.id] = "out of memory"
    saga = carry_out(fakes.world, fakes.order())
    assert saga.state is SagaState.TAKEN_BACK
    assert "out of memory" in saga.why
    assert fakes.live() == fakes.bad.id


def test_a_replica_that_does_not_move_takes_the_route_back(fakes: Fakes) -> None:
    fakes.world.serving.deaf.add("two")
    saga = carry_out(fakes.world, fakes.order())
    assert saga.state is SagaState.TAKEN_BACK
    assert "two" in saga.why


def test_answers_other_than_recorded_are_not_proved(fakes: Fakes) -> None:
    fakes.world.serving.wrong = True
    saga = carry_out(fakes.world, fakes.order())
    assert saga.state is SagaState.TAKEN_BACK
    assert "answers differ" in saga.why
