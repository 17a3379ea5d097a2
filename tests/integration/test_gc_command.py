"""`ebbtide gc` and `ebbtide refresh` on the reference system, as they are typed."""

import json
import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from ebbtide.core.recording import record
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, SagaState
from ebbtide.entrypoints.cli.main import app
from tests.ride_pricing import Running


@pytest.fixture
def given(pricing: Running) -> tuple[Running, Release]:
    """The reference system with a release that was never promoted: other settings, same rest."""
    config = pricing.file.at(pricing.file.layers.config["pricing"].path)
    file = next(each for each in sorted(config.rglob("*")) if each.is_file())
    file.write_text(file.read_text() + "\n# dearer\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "commit", "-qam", "dearer"], cwd=pricing.root, check=True)
    pin = pricing.world.layers["config"].pin("pricing")
    release = pricing.release("v2").with_pins("config", pin)
    record(pricing.world, release, by="tester")
    yaml = pricing.file._folder / f"{pricing.file.system}.yaml"
    yaml.write_text(f"{yaml.read_text()}\nretention: {{days: 0, cool_down_hours: 0}}\n")
    return pricing, release


def cli(system: Running, *words: str) -> tuple[int, str]:
    run = CliRunner().invoke(app, [*words, "--systems", str(system.file._folder)])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run.exit_code, run.stdout


def test_the_command_on_the_reference_system(given: tuple[Running, Release]) -> None:
    system, release = given
    name, state = system.file.system, system.file.state_dir
    place = state / "settings" / release.pins("config")[0].digest
    before = set(state.glob("*/*"))
    code, text = cli(system, "gc", name, "--json")
    shown = json.loads(text)
    (loss,) = shown["can_be_given_up"]
    assert (code, loss["release"], list(loss["bytes"])) == (0, release.id, ["config"])
    assert set(shown["retained"]) == {system.release(each).id for each in ("v1", "v2", "v3")}
    assert place.is_dir() and not system.world.journal.given_up(name), "it has only shown"
    code, text = cli(system, "gc", name, "--yes")
    assert code == 0 and release.short in text and "1 contents deleted" in text
    assert set(state.glob("*/*")) == before - {place}
    assert "given up" in cli(system, "releases", name)[1]
    code, text = cli(system, "gc", name, "--yes")
    assert code == 0 and "Nothing" in text


def late_counts(table: Path) -> int:
    """Rides that were counted late are added; the table's new version.

    Not a new hour: the features of this system are of the coming week, and its golden
    questions ask for one week.
    """
    DeltaTable(table).update({"rides": "rides + 1"}, predicate="rides < 3")
    return DeltaTable(table).version()


def test_a_refresh_of_the_reference_system(pricing: Running) -> None:
    name, before = pricing.file.system, pricing.release("v2")
    assert pricing.order(Level.SYSTEM).target == before.id, "v3's features would fail their suite"
    newest = late_counts(pricing.root / "tables" / "rides")

    code, text = cli(pricing, "refresh", name, "--yes", "--json")

    told = json.loads(text)
    assert code == 0 and told["state"] == "completed" and told["before_is_new"], told
    live, ready = (pricing.world.journal.release(told[each]) for each in ("live", "before"))
    for release, old in ((live, before), (ready, pricing.release("v1"))):
        rides_pin = release.pin("data", "rides")
        assert rides_pin and rides_pin.at["version"] == str(newest)
        assert release.pins("features") != old.pins("features")
        assert release.pins("model") == old.pins("model")
        kept = pricing.file.state_dir / "releases" / release.pins("features")[0].digest
        assert len(pq.read_table(kept)) > 0
    link = os.path.realpath(pricing.file.at("live/features"))
    assert Path(link).name == live.pins("features")[0].digest

    code, text = cli(pricing, "refresh", name, "--yes")
    assert code == 0 and "Nothing new." in text
    saga = pricing.order(Level.SYSTEM)
    assert (saga.state, saga.target) == (SagaState.COMPLETED, ready.id), saga.why
    assert Path(os.path.realpath(pricing.file.at("live/features"))).name != Path(link).name
