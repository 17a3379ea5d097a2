"""The demo's incidents, one for each level: where each ends, by what the stores themselves say."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from urllib.request import Request, urlopen

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from ebbtide.core.errors import Unknown
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Saga, SagaState
from ebbtide.entrypoints.cli.main import app
from reference.ride_pricing.demo import INCIDENTS, play
from reference.ride_pricing.oracle import Verdict, key
from reference.ride_pricing.stories import bad_features, bad_model, poisoned_data
from reference.ride_pricing.stories.stage import recorded
from reference.ride_pricing.workspace import Version
from tests import stores
from tests.measuring import others_unmeasured
from tests.ride_pricing import Running


@pytest.fixture
def at_v2(pricing: Running) -> Running:
    """v2 serves again, and the next version is built on what v2's commit has."""
    assert pricing.order().state is SagaState.COMPLETED
    commit = pricing.built.workspace.versions["v2"].commit
    git = ["git", "checkout", "--quiet", commit, "--", "."]
    subprocess.run(git, cwd=pricing.root, check=True)
    return pricing


def ship(system: Running, version: Version) -> Release:
    release = recorded(system.built.workspace, system.world, version)
    saga = system.order(Level.PROMOTION, to=release.id)
    assert saga.state is SagaState.COMPLETED, saga.why
    return release


def shows(system: Running, *things: str) -> dict[str, object]:
    found = system.shown()
    return {thing: found[thing] for thing in things}


def answered(system: Running) -> tuple[str, dict[str, dict[str, float]]]:
    """The release that answers the smoke questions, and its answers by row."""
    lines = (system.root / "golden/smoke.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    body = json.dumps({"dataframe_records": rows}).encode()
    ask = Request(
        f"{system.url}/invocations", data=body, headers={"Content-Type": "application/json"}
    )
    with urlopen(ask, timeout=30) as response:
        given = json.load(response)["predictions"]
        release = response.headers["x-ebbtide-release"]
    return release, {key(row): answer for row, answer in zip(rows, given, strict=True)}


def demand_error(system: Running, given: dict[str, dict[str, float]]) -> float:
    """Median, as a share of the truth, which only the city knows."""
    truth = [system.built.workspace.city.true_demand(*row.split("|")) for row in given]
    answers = [answer["demand"] for answer in given.values()]
    return float(np.median(np.abs(np.array(answers) / np.array(truth) - 1)))


def demands(given: dict[str, dict[str, float]]) -> list[float]:
    return [answer["demand"] for answer in given.values()]


def expected_of(system: Running, release: Release) -> dict[str, dict[str, float]]:
    path = system.built.workspace.expected / f"{release.id}.json"
    found: dict[str, dict[str, float]] = json.loads(path.read_text())
    return found


def last_two(system: Running) -> tuple[Saga, Saga]:
    """The saga to the safe release and the one to the target."""
    target, safe = system.world.journal.sagas("ride-pricing", limit=2)
    return safe, target


def test_bad_model_the_model_alone_goes_back(at_v2: Running) -> None:
    good = at_v2.shown()
    with others_unmeasured():
        bad = bad_model.build(at_v2.built.workspace, "v4")
    release = ship(at_v2, bad)
    assert at_v2.shown() == {**good, "route": release.id, "model": bad.model}
    wrong = demand_error(at_v2, answered(at_v2)[1])
    saga = at_v2.order(Level.MODEL, reason="prices are off")
    assert saga.state is SagaState.COMPLETED, saga.why
    assert at_v2.shown() == {**good, "route": saga.target}
    serving, given = answered(at_v2)
    assert serving == saga.target != release.id
    assert demand_error(at_v2, given) < 0.12 < wrong


def test_bad_features_the_earlier_pipeline_runs_and_the_rest_stays(
    at_v2: Running, tmp_path: Path
) -> None:
    workspace, good = at_v2.built.workspace, at_v2.release("v2")
    before = shows(at_v2, "model", "features")
    weather = bad_features.more_weather(workspace)
    with others_unmeasured():
        bad = bad_features.build(workspace, weather, "v4")
        release = ship(at_v2, bad)
        saga = at_v2.order(Level.FEATURES, reason="prices surge")
    assert saga.state is SagaState.COMPLETED, saga.why
    assert last_two(at_v2)[0].target == good.id
    assert shows(at_v2, "model", "features") == before
    assert at_v2.shown()["config"] == stores.committed(at_v2.root, bad.commit, "config")
    target = at_v2.world.journal.release(saga.target)
    assert target.pin("data", "weather") == release.pin("data", "weather")
    assert DeltaTable(at_v2.root / "tables/weather").version() == weather
    serving, given = answered(at_v2)
    assert serving == target.id not in {good.id, release.id}
    wanted = expected_of(at_v2, good)
    assert demands(given) == pytest.approx([wanted[row]["demand"] for row in given])


def test_poisoned_data_the_table_goes_back_and_the_better_training_stays(
    at_v2: Running, tmp_path: Path
) -> None:
    workspace, good = at_v2.built.workspace, at_v2.release("v2")
    before = shows(at_v2, "rides", "features", "config", "prompt")
    rides = DeltaTable(at_v2.root / "tables/rides")
    count = rides.to_pyarrow_table().num_rows
    version = poisoned_data.poison(workspace)
    with others_unmeasured():
        bad = poisoned_data.build(workspace, version, "v4")
        release = ship(at_v2, bad)
        wrong = demand_error(at_v2, answered(at_v2)[1])
        with at_v2.riders(tmp_path / "riders.jsonl") as riders:
            while not riders.served():
                sleep(0.05)
            saga = at_v2.order(Level.DATA, tables={"rides": "0"}, reason="a backfill")
            _wait_for_one_more(at_v2, saga)
            served = riders.stop()
    assert saga.state is SagaState.COMPLETED, saga.why
    assert shows(at_v2, "rides", "features", "config", "prompt") == before
    serving, given = answered(at_v2)
    assert serving == saga.target
    assert demand_error(at_v2, given) < 0.12 < wrong
    _trained_anew(at_v2, bad)
    seen = list(dict.fromkeys(each.release for each in served))
    assert seen[0] == release.id and good.id in seen[:2]
    left = next(n for n, each in enumerate(served) if each.release == good.id)
    moved = last_two(at_v2)[0].closed_at or 0
    assert release.id not in {each.release for each in served if each.at > moved}
    assert sum(each.release == good.id for each in served[left:]) > 5
    assert Verdict.FAILED not in {each.verdict for each in served}
    _rows_can_be_had(at_v2, saga, tmp_path, count)


def _wait_for_one_more(system: Running, saga: Saga) -> None:
    deadline = monotonic() + 30
    while answered(system)[0] != saga.target:
        assert monotonic() < deadline
        sleep(0.05)


def _trained_anew(system: Running, bad: Version) -> None:
    """The live model is neither v2's nor the bad one, and was trained as the bad one was."""
    version = stores.alias(system.root, "ride-demand", "champion")
    assert int(version) > int(bad.model)
    with closing(sqlite3.connect(system.root / "mlflow.db")) as database:
        query = (
            "SELECT p.key, p.value FROM params p JOIN model_versions v ON v.run_id = p.run_uuid "
            "WHERE v.name = 'ride-demand' AND v.version = ?"
        )
        found = dict(database.execute(query, (version,)).fetchall())
    assert (found["iterations"], found["rate"]) == ("200", "0.05")


def _rows_can_be_had(system: Running, saga: Saga, folder: Path, count: int) -> None:
    """By the very command that the saga's report names."""
    to = folder / "left.parquet"
    steps = {step.name: step for step in system.world.journal.steps(saga.id)}
    assert f"ebbtide export-rows ride-pricing rides --saga {saga.id}" in steps["left.keep_rows"].why
    words = ["export-rows", "ride-pricing", "rides", "--saga", saga.id, "--to", str(to)]
    done = CliRunner().invoke(app, [*words, "--systems", str(system.root / "configs/production")])
    assert done.exit_code == 0, done.output
    left = pq.read_table(to)
    assert left.num_rows == count
    shown = DeltaTable(system.root / "tables/rides").to_pyarrow_table()
    assert shown.num_rows == count
    total = sum(shown.column("rides").to_pylist())
    assert 0.3 * total < sum(left.column("rides").to_pylist()) < 0.4 * total


def test_an_incident_that_there_is_not_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(Unknown) as caught:
        play(tmp_path / "none", "bad-luck")
    assert all(name in caught.value.remedy for name in INCIDENTS)
    assert not (tmp_path / "none").exists()
