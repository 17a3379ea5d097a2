"""Whether a rollback would work now: said level by level, and never guessed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ebbtide.core.checks import Check, State, looked
from ebbtide.core.errors import Refused, Unreachable
from ebbtide.core.readiness import Readiness, Works, examine
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Pin
from ebbtide.core.saga import Level
from ebbtide.testing.fakes import FakeLayer
from flows.levels import STEPS
from flows.order import carry_out, plan
from tests.conftest import Fakes

SYSTEM = (Level.SYSTEM,)


def readiness(fakes: Fakes, *levels: Level) -> Readiness:
    return examine(fakes.world, STEPS, levels=levels or SYSTEM)


def wrong(found: Readiness) -> list[Check]:
    return [check for check in found.checks if check.state is not State.FINE]


def test_a_healthy_system_says_where_it_would_go(fakes: Fakes) -> None:
    found = readiness(fakes)
    (level,) = found.levels
    assert (level.works, level.target, level.why) == (Works.YES, fakes.good.id, ())
    assert (found.live, found.epoch, found.exit_code) == (fakes.bad.id, 2, 0)
    assert wrong(found) == []


def test_it_says_no_more_and_no_less_than_a_rollback_does(fakes: Fakes) -> None:
    found = readiness(fakes, Level.MODEL, Level.SYSTEM)
    for level in found.levels:
        state = carry_out(fakes.world, fakes.order(level.level)).state
        assert (level.works, state) in {(Works.YES, "completed"), (Works.NO, "refused")}
    assert found.exit_code == 9


def test_nothing_is_written_by_looking(fakes: Fakes) -> None:
    journal = fakes.world.journal

    def written() -> list[object]:
        moves = [layer.moves[:] for layer in fakes.world.layers.values()]
        return [journal.audit("", 1000), journal.route("fake"), journal.releases("fake"), moves]

    before = written()
    readiness(fakes, Level.MODEL, Level.SYSTEM)
    assert written() == before


def test_without_a_recorded_run_nobody_knows_how_long_it_takes(fakes: Fakes) -> None:
    assert readiness(fakes).levels[0].took is None


def test_recorded_runs_tell_how_long_it_takes_and_how_old_they_are(fakes: Fakes) -> None:
    saga = carry_out(fakes.world, fakes.order())
    took = readiness(fakes).levels[0].took
    assert took and saga.closed_at
    assert took.runs == 1
    assert took.median == took.p95 == pytest.approx(saga.closed_at - saga.opened_at, abs=1e-3)
    assert took.switched is not None and 0 <= took.switched <= took.median
    assert 0 <= took.age < 60


def test_a_refused_run_tells_nothing_of_how_long_it_takes(fakes: Fakes) -> None:
    assert carry_out(fakes.world, fakes.order(Level.MODEL)).state == "refused"
    assert readiness(fakes, Level.MODEL).levels[0].took is None


def test_a_target_that_lost_a_pin_would_not_work(fakes: Fakes) -> None:
    fakes.world.layers["data"].lost.add(fakes.good.pins("data")[0].digest)
    found = readiness(fakes)
    assert found.levels[0].works is Works.NO and "gone" in found.levels[0].why[0]
    assert found.exit_code == 9
    assert [check.what for check in wrong(found)] == [
        f"data main {fakes.good.pins('data')[0]} of {fakes.good.short}"
    ]


def test_a_store_that_is_away_is_not_called_fine(fakes: Fakes) -> None:
    fakes.world.layers["features"].away = True
    found = readiness(fakes)
    assert (found.levels[0].works, found.exit_code) == (Works.UNKNOWN, 10)
    assert {check.state for check in wrong(found)} == {State.UNKNOWN}
    assert all("features" in check.what and "reached" in check.why for check in wrong(found))


def test_a_projection_that_was_moved_by_hand_is_told_and_stops_nothing(fakes: Fakes) -> None:
    fakes.world.layers["config"].meddle("main", fakes.good.pins("config")[0])
    found = readiness(fakes)
    assert (found.levels[0].works, found.exit_code) == (Works.YES, 7)
    assert [check.what for check in wrong(found)] == ["config main follows the route"]
    assert carry_out(fakes.world, fakes.order()).state == "completed"


def test_a_cache_that_is_away_stops_nothing(fakes: Fakes) -> None:
    fakes.world.cache.away = True
    found = readiness(fakes)
    assert (found.levels[0].works, found.exit_code) == (Works.YES, 0)
    assert [check.state for check in wrong(found)] == [State.WITHOUT]


def test_a_cache_under_another_token_has_drifted(fakes: Fakes) -> None:
    fakes.world.cache.start_epoch("stranger")
    found = readiness(fakes)
    assert found.exit_code == 7 and "stranger" in wrong(found)[0].why


@pytest.mark.parametrize("level", [Level.SYSTEM, Level.MODEL])
def test_too_few_replicas_stop_every_level(fakes: Fakes, level: Level) -> None:
    fakes.world.serving.names.clear()
    found = readiness(fakes, level)
    assert found.levels[0].works is Works.NO
    assert "live replicas" in found.levels[0].why[0]


def test_a_replica_that_could_not_load_the_target_stops_it(fakes: Fakes) -> None:
    fakes.world.serving.refuses[fakes.good.id] = "no such driver"
    found = readiness(fakes)
    assert found.levels[0].works is Works.NO and "no such driver" in found.levels[0].why[0]


def test_a_replica_that_lags_behind_the_route_is_told(fakes: Fakes) -> None:
    fakes.world.serving.replicas()
    fakes.world.serving.deaf.add("one")
    assert carry_out(fakes.world, fakes.order()).state == "taken back"
    found = readiness(fakes)
    assert [check.what for check in wrong(found)] == ["replica one"]


def test_an_open_saga_stops_another(fakes: Fakes) -> None:
    fakes.world.journal.open_saga(plan(fakes.world, fakes.order()).plan, by="her", reason="")
    found = readiness(fakes)
    assert found.levels[0].works is Works.NO and "her" in found.levels[0].why[0]


def test_a_system_without_models_has_no_level_model(make_fakes: Callable[..., Fakes]) -> None:
    made = make_fakes(layers=("features", "config"))
    made.promote(made.good)
    made.promote(made.bad)
    found = readiness(made, Level.MODEL, Level.SYSTEM)
    assert [(level.level, level.works) for level in found.levels] == [(Level.SYSTEM, Works.YES)]
    with pytest.raises(Refused, match="no model"):
        plan(made.world, made.order(Level.MODEL))


def test_a_model_that_is_live_already_is_nothing_to_undo(fakes: Fakes) -> None:
    same = fakes.bad.with_pins("model", *fakes.good.pins("model"))
    same = same.with_pins("features", *fakes.good.pins("features"))
    record(fakes.world, same, by="tester")
    fakes.promote(fakes.good)
    fakes.promote(same)
    found = readiness(fakes, Level.MODEL, Level.SYSTEM)
    assert [level.works for level in found.levels] == [Works.NOTHING, Works.YES]
    assert found.exit_code == 0


def test_without_an_earlier_good_release_nothing_would_work(
    make_fakes: Callable[..., Fakes],
) -> None:
    made = make_fakes()
    assert readiness(made).levels[0].works is Works.NO
    made.promote(made.good)
    assert readiness(made).levels[0].works is Works.NO


class Away:
    """A journal that cannot be reached, or only read."""

    def __init__(self, journal: object, names: tuple[str, ...]) -> None:
        self._journal, self._names = journal, names

    def __getattr__(self, name: str) -> object:
        if name in self._names:
            return self._raise
        return getattr(self._journal, name)

    def _raise(self, *_: object) -> None:
        raise Unreachable("The journal is away.")


def test_without_the_journal_nothing_is_known(fakes: Fakes) -> None:
    world = replace(fakes.world, journal=Away(fakes.world.journal, ("now", "route")))  # type: ignore[arg-type]  # it passes all else on
    found = examine(world, STEPS)
    assert {level.works for level in found.levels} == {Works.UNKNOWN}
    assert found.exit_code == 10


def test_a_journal_that_can_only_be_read_stops_every_level(fakes: Fakes) -> None:
    world = replace(fakes.world, journal=Away(fakes.world.journal, ("try_write",)))  # type: ignore[arg-type]  # it passes all else on
    found = examine(world, STEPS, levels=SYSTEM)
    assert (found.levels[0].works, found.exit_code) == (Works.NO, 9)


def test_what_else_was_looked_at_may_stop_every_level(fakes: Fakes) -> None:
    full = Check("room", State.WRONG, "The disk is full.", stops=True)
    found = examine(fakes.world, STEPS, levels=SYSTEM, others=[full])
    assert found.levels[0].works is Works.NO and found.levels[0].why == ("The disk is full.",)


def test_a_check_that_breaks_has_not_found_it_fine() -> None:
    assert looked("it", lambda: [1 / 0]).state is State.UNKNOWN  # type: ignore[list-item]  # it never gives any
    assert looked("it", list).state is State.FINE
    assert looked("it", lambda: ["broken"]).state is State.WRONG


# The gate that asks a replica


@pytest.fixture
def cold(fakes: Fakes) -> Fakes:
    """A process that has yet to load the registry's client; replicas that can look."""
    fakes.world.layers["model"].is_cold = True  # type: ignore[attr-defined]  # some layers have it
    fakes.world.serving.layers = fakes.world.layers
    return fakes


def test_for_a_cold_process_a_live_replica_looks_at_the_pins(cold: Fakes) -> None:
    saga = carry_out(cold.world, cold.order())
    steps = {step.name: step for step in cold.world.journal.steps(saga.id)}
    assert cold.world.serving.looked == ["one"]
    assert steps["gates.target_is_restorable"].measured["looked"] == "one"


def test_a_process_that_has_all_clients_looks_itself(cold: Fakes) -> None:
    cold.world.layers["model"].is_cold = False  # type: ignore[attr-defined]  # likewise
    assert carry_out(cold.world, cold.order()).state == "completed"
    assert cold.world.serving.looked == []


def test_what_a_replica_finds_missing_refuses_the_target(cold: Fakes) -> None:
    cold.world.layers["model"].lost.add(cold.good.pins("model")[0].digest)
    saga = carry_out(cold.world, cold.order())
    assert saga.state == "refused" and "found by one" in saga.why


@pytest.mark.parametrize("replicas", [[], ["one", "two"]])
def test_where_no_replica_can_look_this_process_does(cold: Fakes, replicas: list[str]) -> None:
    cold.world.serving.names[:] = replicas
    cold.world.serving.layers = {}
    cold.world.layers["model"].lost.add(cold.good.pins("model")[0].digest)
    saga = carry_out(cold.world, cold.order())
    assert saga.state == "refused" and "found by this process" in saga.why


class Glanced(FakeLayer):
    """A layer of large contents: which of them were hashed, and which only looked at."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.hashed: set[str] = set()
        self.gone: set[str] = set()

    def problems(self, pin: Pin) -> list[str]:
        self.hashed.add(pin.digest)
        return super().problems(pin)

    def glance(self, pin: Pin) -> list[str]:
        return [f"{pin.name} has another size"] if pin.digest in self.gone else []

    def glance_outside(self, pin: Pin) -> list[str]:
        return []


@pytest.fixture
def large(fakes: Fakes) -> tuple[Fakes, Glanced, Pin]:
    """A third release is kept that no level goes to; its features are its own."""
    layer, before = Glanced("features"), fakes.world.layers["features"]
    layer.meddle("main", before.live("main"))
    layers = {**fakes.world.layers, "features": layer}
    fakes = replace(fakes, world=replace(fakes.world, layers=layers))
    kept = resolve(fakes.world, {"features": {"main": "77"}})
    record(fakes.world, kept, by="tester")
    return fakes, layer, kept.pins("features")[0]


def test_only_what_a_rollback_needs_now_is_hashed(large: tuple[Fakes, Glanced, Pin]) -> None:
    fakes, layer, kept = large
    layer.hashed.clear()
    found = readiness(fakes, Level.MODEL, Level.SYSTEM)
    needed = {release.pins("features")[0].digest for release in (fakes.good, fakes.bad)}
    assert layer.hashed == needed
    assert [said.split(" of ")[0] for said in found.not_hashed] == [f"features main {kept}"]


def test_all_that_is_kept_is_hashed_where_that_is_asked_for(
    large: tuple[Fakes, Glanced, Pin],
) -> None:
    fakes, layer, kept = large
    layer.lost.add(kept.digest)
    assert wrong(readiness(fakes)) == [], "a glance sees no bytes"
    found = examine(fakes.world, STEPS, levels=SYSTEM, deep=True)
    assert [check.why for check in wrong(found)] == [f"main {kept} is gone"]
    assert (found.not_hashed, found.exit_code) == ((), 7)


def test_what_a_glance_finds_missing_is_told(large: tuple[Fakes, Glanced, Pin]) -> None:
    fakes, layer, kept = large
    layer.gone |= {kept.digest, fakes.good.pins("features")[0].digest}
    found = readiness(fakes)
    assert [check.why for check in wrong(found)] == ["main has another size"]
    assert (found.levels[0].works, found.exit_code) == (Works.YES, 7)
