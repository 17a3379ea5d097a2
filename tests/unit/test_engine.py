"""The laws that the engine keeps, each broken on purpose at every row of the table."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ebbtide.core.engine import Engine
from ebbtide.core.gates import failed, inconclusive, passed
from ebbtide.core.planner import draft
from ebbtide.core.saga import Level, Phase, Saga, SagaState
from ebbtide.core.step import Compensatable, Step
from ebbtide.testing import standing
from flows.levels import STEPS
from tests.conftest import Fakes

ROWS = [row for row in STEPS if Level.SYSTEM in row.levels]
BEFORE_THE_PROOF = [row.name for row in ROWS if row.phase is not Phase.SETTLE]
DOING = [row.name for row in ROWS if row.do and row.phase is not Phase.SETTLE]
UNDOABLE = [row.name for row in ROWS if row.compensates]


def roll_back(fakes: Fakes, table: tuple[Step, ...] = STEPS, **engine: Any) -> Saga:
    """A level 2 rollback over a table of the test's own."""
    order = fakes.order()
    drafted = draft(fakes.world, order, table)
    saga, lease = fakes.world.journal.open_saga(drafted.plan, by="tester", reason="test")
    world = replace(fakes.world, lease=lease)
    return Engine(world, table, **engine).run(drafted.move(saga.id, order), drafted.plan, lease)


def table_with(name: str, change: Callable[[Step], Step]) -> tuple[Step, ...]:
    """The table with one row replaced; the row keeps its name."""
    return tuple(change(row) if row.name == name else row for row in STEPS)


def doing(name: str, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> Any:
    """The table where one row's do is wrapped."""

    def change(row: Step) -> Step:
        assert row.do
        wrapped = wrap(row.do.do)
        wrapped.__module__, wrapped.__name__ = row.do.do.__module__, row.do.do.__name__
        return replace(row, do=Compensatable(wrapped, row.do.remember, row.do.memory))

    return table_with(name, change)


def proving(name: str, gate: Callable[..., Any]) -> tuple[Step, ...]:
    """The table where one row's gate is another."""

    def change(row: Step) -> Step:
        def stand_in(world: Any, move: Any) -> Any:
            return gate(world, move)

        stand_in.__module__, stand_in.__name__ = (
            row.prove.__module__,
            row.prove.__name__,
        )
        return replace(row, prove=stand_in)

    return table_with(name, change)


def test_a_rollback_ends_at_the_target_and_every_row_was_proved(fakes: Fakes) -> None:
    saga = roll_back(fakes)
    assert saga.state is SagaState.COMPLETED
    assert fakes.live() == fakes.good.id
    for layer, adapter in fakes.world.layers.items():
        assert adapter.live("main") == fakes.good.pin(layer, "main")
    steps = fakes.world.journal.steps(saga.id)
    rows = [row.name for row in ROWS if row.where(fakes.world)]
    assert [step.name for step in steps] == rows
    assert {step.verdict for step in steps} == {"passed"}


@pytest.mark.parametrize("name", BEFORE_THE_PROOF)
@pytest.mark.parametrize(
    "gate",
    [
        lambda _w, _m: failed("on purpose"),
        lambda _w, _m: inconclusive("on purpose"),
        lambda _w, _m: 1 / 0,
        lambda _w, _m: None,
    ],
    ids=["failed", "inconclusive", "raised", "no finding"],
)
def test_a_gate_that_is_not_passed_gives_the_source_back(
    fakes: Fakes, name: str, gate: Callable[..., Any]
) -> None:
    before = standing(fakes.world)
    saga = roll_back(fakes, proving(name, gate))
    preflight = name in {row.name for row in ROWS if row.phase is Phase.PREFLIGHT}
    assert saga.state is (SagaState.REFUSED if preflight else SagaState.TAKEN_BACK)
    assert name in saga.why
    assert standing(fakes.world) == before


@pytest.mark.parametrize("name", DOING)
def test_a_step_that_dies_half_done_is_taken_back_too(fakes: Fakes, name: str) -> None:
    def half_done(do: Callable[..., None]) -> Callable[..., None]:
        def die(world: Any, move: Any, was: Any) -> None:
            do(world, move, was)
            raise OSError("the disk is full")

        return die

    before = standing(fakes.world)
    saga = roll_back(fakes, doing(name, half_done))
    assert saga.state is SagaState.TAKEN_BACK
    assert "the disk is full" in saga.why
    assert standing(fakes.world) == before


@pytest.mark.parametrize("name", DOING)
def test_the_intent_is_durable_before_the_effect(fakes: Fakes, name: str) -> None:
    seen: list[Any] = []

    def look_first(do: Callable[..., None]) -> Callable[..., None]:
        def looking(world: Any, move: Any, was: Any) -> None:
            seen.extend(step for step in world.journal.steps(move.saga) if step.name == name)
            do(world, move, was)

        return looking

    roll_back(fakes, doing(name, look_first))
    assert [step.done_at for step in seen] == [None]


@pytest.mark.parametrize("name", UNDOABLE)
def test_a_failed_take_back_is_told_and_the_others_still_run(fakes: Fakes, name: str) -> None:
    def cannot(_world: Any, _move: Any, _was: Any) -> None:
        raise OSError("read-only file system")

    table = proving("golden.same_golden_answers", lambda _w, _m: failed("on purpose"))
    table = tuple(replace(row, undo=cannot) if row.name == name else row for row in table)
    saga = roll_back(fakes, table)
    assert saga.state is SagaState.NEEDS_HUMAN
    # Effects stay held where the route is not back, and that is told, too.
    held = {"effects.hold"} if name == "route.switch" else set()
    told = [left for left in saga.left if not any(each in left for each in held)]
    assert [left for left in told if name in left and "read-only" in left] == told
    assert len(told) + len(held) == len(saga.left)
    undone = {step.name for step in fakes.world.journal.steps(saga.id) if step.undone_at}
    assert undone >= set(UNDOABLE) - {name} - held


def test_every_failed_take_back_is_told(fakes: Fakes) -> None:
    def cannot(_world: Any, _move: Any, _was: Any) -> None:
        raise OSError("read-only file system")

    table = proving("golden.same_golden_answers", lambda _w, _m: failed("on purpose"))
    names = {"model.repoint_alias", "settings.publish_config", "features.repoint_link"}
    saga = roll_back(
        fakes, tuple(replace(row, undo=cannot) if row.name in names else row for row in table)
    )
    assert saga.state is SagaState.NEEDS_HUMAN
    assert {left.split()[2].rstrip(":") for left in saga.left} == names


@pytest.mark.parametrize("layer", ["model", "features", "data", "config", "prompt", "infra"])
def test_a_write_that_is_acknowledged_and_lost_is_read_back_and_found(
    fakes: Fakes, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes.world.layers[layer], "move", lambda *_words, **_names: None)
    before = standing(fakes.world)
    saga = roll_back(fakes)
    assert saga.state is SagaState.TAKEN_BACK
    assert f"{layer} main shows" in saga.why
    assert standing(fakes.world) == before


def test_what_somebody_else_moved_meanwhile_is_not_taken_back(fakes: Fakes) -> None:
    stranger = fakes.world.layers["model"].pin("main", "9")

    def meddling(_world: Any, _move: Any) -> Any:
        fakes.world.layers["model"].meddle("main", stranger)
        return failed("on purpose")

    saga = roll_back(fakes, proving("golden.same_golden_answers", meddling))
    assert saga.state is SagaState.NEEDS_HUMAN
    assert fakes.world.layers["model"].live("main") == stranger
    assert fakes.live() == fakes.bad.id
    assert "model.repoint_alias" in saga.left[0]


def test_a_settling_step_that_fails_leaves_the_target_and_says_so(fakes: Fakes) -> None:
    table = proving("quarantine.deny_source", lambda _w, _m: failed("on purpose"))
    saga = roll_back(fakes, table)
    assert saga.state is SagaState.NEEDS_HUMAN
    assert fakes.live() == fakes.good.id
    assert any("quarantine.deny_source" in left for left in saga.left)
    last = [row for row in STEPS if Level.SYSTEM in row.levels][-1]
    assert fakes.world.journal.steps(saga.id)[-1].name == last.name, "the others still ran"


def test_an_observer_that_fails_steers_nothing(fakes: Fakes) -> None:
    def clumsy(_event: object) -> None:
        raise RuntimeError("a bug in a progress bar")

    assert roll_back(fakes, observer=clumsy).state is SagaState.COMPLETED


def test_every_call_is_carried_out_by_the_performer_once(fakes: Fakes) -> None:
    labels = []

    def perform(call: Any, function: Callable[[], object]) -> object:
        labels.append(call.label)
        return function()

    roll_back(fakes, perform=perform)
    assert len(labels) == len(set(labels))
    assert labels[:3] == [f"prove {row.name}" for row in ROWS[:3]]
    assert "route.switch" in labels and "prove route.switch" in labels


def test_a_cache_that_is_away_stops_nothing_and_is_named(fakes: Fakes) -> None:
    fakes.world.cache.away = True
    saga = roll_back(fakes)
    assert saga.state is SagaState.COMPLETED
    told = [step for step in fakes.world.journal.steps(saga.id) if step.measured.get("away")]
    assert {step.name for step in told} == {"cache.leave_epoch", "cache.start_epoch"}


def test_the_cache_token_is_never_used_twice(fakes: Fakes) -> None:
    roll_back(
        fakes,
        proving("golden.same_golden_answers", lambda _w, _m: failed("on purpose")),
    )
    tokens = fakes.world.cache.tokens
    assert len(tokens) == len(set(tokens))
    route = fakes.world.journal.route(fakes.world.system)
    assert route and tokens[-1] == route.token


def test_passed_is_the_only_verdict_that_goes_on() -> None:
    assert passed("x").passed
    assert not any(finding.passed for finding in (failed("x"), inconclusive("x")))
