"""Whatever dies, whenever: at every point of every row, and again while it is recovered.

Here the process "dies" by an exception that nothing catches, on the fakes and a
real journal: fast enough for every point of every level, twice.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ebbtide.core.errors import PlanChanged, Refused, SagaOpen
from ebbtide.core.saga import ROLLBACKS, Level, Saga, SagaState
from ebbtide.core.step import Step
from ebbtide.testing import Deaths, Died, broken, dying
from flows import levels
from flows.order import carry_out
from flows.unfinished import finish
from tests.conftest import Fakes, one_after_another

ENDS = {SagaState.COMPLETED, SagaState.TAKEN_BACK, SagaState.REFUSED}


@pytest.fixture
def deaths() -> Iterator[Deaths]:
    with dying() as made:
        yield made


@pytest.fixture
def fresh(tmp_path: Path, promoted_journal: Path) -> Iterator[Callable[[], Fakes]]:
    with one_after_another(tmp_path, promoted_journal) as make:
        yield make


@pytest.mark.parametrize(
    ("level", "failing"),
    [
        *((level, False) for level in (*ROLLBACKS, Level.PROMOTION)),
        *((level, True) for level in (Level.SYSTEM, Level.DATA)),
    ],
    ids=lambda value: "taken back" if value is True else "" if value is False else str(value),
)
def test_it_ends_at_the_source_or_the_target_wherever_it_dies(
    fresh: Callable[[], Fakes], deaths: Deaths, level: Level, failing: bool
) -> None:
    points = _points(fresh(), deaths, level, failing)
    if failing:
        # Until the proof fails, it is the same saga as the one that does not.
        points = points[_first_of_the_undoing(points) - 2 :]
    assert len(points) > 30
    for point in points:
        system = fresh()
        _die(system, deaths, level, point, failing)
        system.expire()
        saga = _recovered(system)
        _judge(system, saga, point)


@pytest.mark.parametrize("level", [Level.SYSTEM, Level.DATA])
def test_it_may_die_again_while_it_is_recovered(
    fresh: Callable[[], Fakes], deaths: Deaths, level: Level
) -> None:
    first = "route.switch/do/effect-done"
    system = fresh()
    _die(system, deaths, level, first)
    system.expire()
    deaths.passed.clear()
    _recovered(system)
    undoing = [point for point in deaths.passed if "/undo/" in point]
    assert len(undoing) > 6
    for second in undoing:
        system = fresh()
        _die(system, deaths, level, first)
        system.expire()
        deaths.at = second
        with pytest.raises(Died):
            _recovered(system)
        system.expire()
        _judge(system, _recovered(system), f"{first}, then {second}")


def test_who_is_alive_is_not_recovered(fakes: Fakes, deaths: Deaths) -> None:
    _die(fakes, deaths, Level.SYSTEM, "route.switch/do/effect-done")
    assert finish(fakes.world, by="tester") == []
    saga = fakes.world.journal.sagas("fake", limit=1)[0]
    with pytest.raises(SagaOpen, match=saga.id):
        finish(fakes.world, by="tester", saga=saga.id)


def test_a_new_order_names_the_dead_saga_and_the_remedy(fakes: Fakes, deaths: Deaths) -> None:
    _die(fakes, deaths, Level.SYSTEM, "route.switch/do/effect-done")
    fakes.expire()
    with pytest.raises(SagaOpen, match="ebbtide recover fake"):
        carry_out(fakes.world, fakes.order(Level.SYSTEM))


def test_another_versions_plan_is_left_alone(
    fakes: Fakes, deaths: Deaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    _die(fakes, deaths, Level.SYSTEM, "route.switch/do/effect-done")
    fakes.expire()
    fewer = tuple(row for row in levels.STEPS if row.name != "model.repoint_alias")
    monkeypatch.setattr("flows.unfinished.STEPS", fewer)
    with pytest.raises(PlanChanged, match=r"model.repoint_alias.*ebbtide 0"):
        finish(fakes.world, by="tester")
    assert len(fakes.world.journal.abandoned()) == 1, "it was not even taken over"


def test_after_too_many_deaths_a_person_is_asked_and_may_finish_it(
    fakes: Fakes, deaths: Deaths
) -> None:
    _die(fakes, deaths, Level.SYSTEM, "route.switch/do/effect-done")
    for _ in range(4):
        fakes.expire()
        deaths.at = "route.switch/undo/intent-written"
        with pytest.raises(Died):
            _recovered(fakes)
    fakes.expire()
    halted = _recovered(fakes)
    assert halted.state is SagaState.NEEDS_HUMAN
    assert "take back route.switch" in halted.left
    ended = finish(fakes.world, by="a person", saga=halted.id)[0]
    _judge(fakes, ended, "by hand")
    with pytest.raises(Refused, match="nothing to recover"):
        finish(fakes.world, by="a person", saga=halted.id)


def test_a_take_back_that_failed_is_finished_by_hand(fakes: Fakes) -> None:
    world, layer = fakes.world, fakes.world.layers["model"]
    world.serving.wrong = True
    original = layer.move

    def once(name: str, to: Any, **rest: Any) -> None:
        if "undo" in str(rest["note"]):
            raise RuntimeError("the registry does not take it back")
        original(name, to, **rest)

    layer.move = once  # type: ignore[method-assign]  # the registry breaks
    halted = carry_out(world, fakes.order(Level.SYSTEM))
    assert halted.state is SagaState.NEEDS_HUMAN
    layer.move = original  # type: ignore[method-assign]  # and is mended
    ended = finish(world, by="a person", saga=halted.id)[0]
    assert ended.state is SagaState.TAKEN_BACK, ended.left
    _judge(fakes, ended, "by hand")


def _points(system: Fakes, deaths: Deaths, level: Level, failing: bool) -> list[str]:
    """Every point that the level's own saga passes."""
    _run(_ready(system, level, failing), level)
    rows = {row.name: row for row in levels.STEPS}
    wanted = [point for point in dict.fromkeys(deaths.passed) if _can_be_left(rows, level, point)]
    deaths.passed.clear()
    return wanted


def _first_of_the_undoing(points: list[str]) -> int:
    return next(n for n, point in enumerate(points) if "/undo/" in point)


def _can_be_left(rows: dict[str, Step], level: Level, point: str) -> bool:
    """Whether who dies there leaves a saga of that level open, as no other point does."""
    name, _, kind = point.partition("/")
    if name == "saga":
        return kind != "closed"
    if name not in rows:
        return name != "journal"
    only_gate = rows[name].do is None and kind.endswith(("intent-written", "effect-done"))
    return level in rows[name].levels and not only_gate


def _ready(system: Fakes, level: Level, failing: bool) -> Fakes:
    if failing:
        system.world.serving.wrong = True
    if level is Level.MODEL:
        # Else the features of the live release, which stay, would not fit it.
        features = system.bad.pins("features")[0].digest
        system.world.layers["model"]._at = lambda _: {"trained_on": features}
    return system


def _run(system: Fakes, level: Level) -> Saga:
    if level is Level.PROMOTION:
        return carry_out(system.world, system.order(level, to=system.good.id))
    if level is Level.MODEL:
        return carry_out(system.world, system.order(level, models={"main": "1"}))
    deep = level in (Level.FEATURES, Level.DATA)
    # The live release is left serving, so that there is one saga and not two.
    return carry_out(system.world, system.order(level, safe=system.bad.id if deep else ""))


def _die(system: Fakes, deaths: Deaths, level: Level, point: str, failing: bool = False) -> None:
    deaths.at = point
    with pytest.raises(Died):
        _run(_ready(system, level, failing), level)


def _recovered(system: Fakes) -> Saga:
    ended = finish(system.world, by="tester")
    assert len(ended) == 1
    return ended[0]


def _judge(system: Fakes, saga: Saga, point: str) -> None:
    """Exactly the source or exactly the target, in every layer, and the journal whole."""
    world = system.world
    assert saga.state in ENDS, f"{point}: {saga.state} {saga.why} {saga.left}"
    wanted = saga.target if saga.state is SagaState.COMPLETED else saga.source
    assert system.live() == wanted, f"{point}: {saga.state}, but {system.live()[:12]} is live"
    assert broken(world) == {}, point
    route = world.journal.route("fake")
    assert route and world.cache.epoch() == route.token, point
    assert world.journal.abandoned() == [], point
