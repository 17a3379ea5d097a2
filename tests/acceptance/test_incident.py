"""The published incident on real stores, judged by the riders and by the stores themselves."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep

import pytest

from ebbtide.core.errors import AlreadyLive, NeverProved, Quarantined, SagaOpen, Tampered
from ebbtide.core.planner import Order
from ebbtide.core.recording import record
from ebbtide.core.saga import Level, Phase, SagaState
from ebbtide.testing import standing
from flows.order import plan
from reference.ride_pricing.oracle import Verdict
from tests import stores
from tests.ride_pricing import Running


def ask(seconds: float) -> None:
    """Let riders ask for a while."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        sleep(0.05)


def test_a_whole_system_rolls_back_under_traffic(pricing: Running, tmp_path: Path) -> None:
    assert pricing.shown() == pricing.as_it_was_at("v3")
    with pricing.riders(tmp_path / "riders.jsonl") as riders:
        ask(1.5)
        saga = pricing.order(reason="prices surge")
        ask(1.5)
        served = riders.stop()
    assert saga.state is SagaState.COMPLETED
    assert pricing.shown() == pricing.as_it_was_at("v2")
    verdicts = {each.verdict for each in served}
    assert verdicts == {Verdict.SERVED}, [each.why for each in served if each.why][:3]
    seen = [each.release for each in served]
    assert set(seen) == {pricing.release("v3").id, pricing.release("v2").id}
    assert stores.cache_token(pricing.file.state_dir, "ride-pricing") == stores.route_token(
        pricing.journal
    )
    assert pricing.world.journal.verify() == []


def test_every_layer_goes_back_and_forth(pricing: Running, tmp_path: Path) -> None:
    with pricing.riders(tmp_path / "riders.jsonl") as riders:
        ask(0.5)
        saga = pricing.order(to=pricing.release("v1").id)
        assert saga.state is SagaState.COMPLETED, saga.why
        assert pricing.shown() == pricing.as_it_was_at("v1")
        pricing.promote("v2")
        assert pricing.shown() == pricing.as_it_was_at("v2")
        ask(0.5)
        assert {each.verdict for each in riders.stop()} == {Verdict.SERVED}
    order = Order(Level.SYSTEM, by="tester", to=pricing.release("v1").id)
    moved = {step.layer for step in plan(pricing.world, order).plan.steps}
    assert moved >= {"model", "features", "data", "config", "prompt"}


def test_the_model_alone_is_refused_before_anything_is_touched(pricing: Running) -> None:
    before = pricing.shown()
    saga = pricing.order(Level.MODEL, models={"demand": "2"})
    assert saga.state is SagaState.REFUSED
    assert "Level `system` works" in saga.why
    assert pricing.release("v2").short in saga.why
    assert {step.phase for step in pricing.world.journal.steps(saga.id)} == {Phase.PREFLIGHT}
    assert pricing.shown() == before


def test_a_model_of_the_same_lineage_goes_back_alone(pricing: Running) -> None:
    pricing.order()
    again = pricing.registered_again("2")
    pin = pricing.world.layers["model"].pin("demand", again)
    newer = pricing.release("v2").with_pins("model", pin)
    record(pricing.world, newer, by="tester")
    assert pricing.order(Level.PROMOTION, to=newer.id).state is SagaState.COMPLETED
    assert stores.alias(pricing.root, "ride-demand", "champion") == again
    saga = pricing.order(Level.MODEL, models={"demand": "2"})
    assert saga.state is SagaState.COMPLETED, saga.why
    assert pricing.shown() == pricing.as_it_was_at("v2")
    names = {step.name for step in pricing.world.journal.steps(saga.id)}
    assert "model.repoint_alias" in names
    assert not names & {"features.repoint_link", "settings.publish_config"}


def test_a_release_whose_code_cannot_be_loaded_is_refused_and_the_live_one_goes_on(
    pricing: Running, tmp_path: Path
) -> None:
    broken = pricing.root / "serving/handler.py"
    whole = broken.read_text()
    try:
        broken.write_text("raise RuntimeError('a typo')\n")
        commit = pricing.built.workspace.commit("Break the handler")
        pin = pricing.world.layers["infra"].pin("serving", commit)
    finally:
        broken.write_text(whole)
        pricing.built.workspace.commit("Mend the handler")
    release = pricing.release("v3").with_pins("infra", pin)
    pricing.world.journal.add_release(release, pricing.built.recorded["v3"].evidence, None)
    before = pricing.shown()
    with pricing.riders(tmp_path / "riders.jsonl") as riders:
        saga = pricing.order(Level.PROMOTION, to=release.id)
        assert {each.verdict for each in riders.stop()} <= {Verdict.SERVED}
    assert saga.state is SagaState.TAKEN_BACK
    assert "a typo" in saga.why
    assert pricing.shown() == before


def test_answers_other_than_recorded_take_everything_back(pricing: Running) -> None:
    """A release whose snapshot says other than what it answers."""
    target = pricing.release("v2").with_pins("config", *pricing.release("v1").pins("config"))
    golden = pricing.built.recorded["v2"].golden  # v2's own prices, not those of v1's fare
    pricing.world.journal.add_release(target, pricing.built.recorded["v2"].evidence, golden)
    before, standing_before = pricing.shown(), standing(pricing.world)
    saga = pricing.order(to=target.id, accept_unproved=True)
    assert saga.state is SagaState.TAKEN_BACK
    assert "answers differ" in saga.why
    assert pricing.shown() == before
    assert standing(pricing.world) == standing_before


def test_a_second_rollback_while_one_is_open_is_refused(pricing: Running) -> None:
    drafted = plan(pricing.world, Order(Level.SYSTEM, by="tester"))
    pricing.world.journal.open_saga(drafted.plan, by="somebody", reason="")
    before = pricing.shown()
    with pytest.raises(SagaOpen, match="somebody"):
        pricing.order()
    assert pricing.shown() == before


def test_the_live_release_and_a_quarantined_one_are_no_targets(pricing: Running) -> None:
    with pytest.raises(AlreadyLive):
        pricing.order(to=pricing.release("v3").id)
    pricing.order()
    with pytest.raises(Quarantined):
        pricing.order(to=pricing.release("v3").id, accept_unproved=True)


def test_a_release_that_never_served_needs_a_word(pricing: Running) -> None:
    never = pricing.release("v2").with_pins("config", *pricing.release("v1").pins("config"))
    record(pricing.world, never, by="tester")
    with pytest.raises(NeverProved):
        pricing.order(to=never.id)
    assert pricing.order(to=never.id, accept_unproved=True).state is SagaState.COMPLETED


def test_a_manifest_edited_by_hand_is_not_believed(pricing: Running) -> None:
    target = pricing.release("v2")
    with closing(sqlite3.connect(pricing.journal)) as database, database:
        manifest = json.loads(
            database.execute("SELECT manifest FROM releases WHERE id = ?", (target.id,)).fetchone()[
                0
            ]
        )
        manifest["layers"]["model"][0]["at"]["version"] = "1"
        database.execute(
            "UPDATE releases SET manifest = ? WHERE id = ?", (json.dumps(manifest), target.id)
        )
    before = pricing.shown()
    with pytest.raises(Tampered):
        pricing.order(to=target.id)
    assert pricing.shown() == before
    assert any(
        target.short in problem or target.id in problem
        for problem in pricing.world.journal.verify()
    )
