"""`ebbtide init` on pipelines: what it tells of making features and models anew."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import CommitProperties, write_deltalake
from pyarrow import table as arrow
from typer.testing import CliRunner

from ebbtide.adapters.system.file import read_system_file
from ebbtide.entrypoints.cli.main import app
from tests.integration import discovery_places as places
from tests.integration.registry_store import on_sqlite

PIPELINE = """
stages:
  extract:
    cmd: python pipeline/extract.py
    wdir: {wdir}
    deps: [pipeline/extract.py]
    params: [{params}]
    outs: [data/rides.parquet]
  build:
    cmd: python pipeline/build.py
    deps: [data/rides.parquet]
    outs: [data/features]
  fit:
    cmd: python pipeline/fit.py
    deps: [data/features]
    metrics: [{{data/fitted.json: {{cache: false}}}}]
"""
EXTRACT = """import os
from pathlib import Path
TABLES = Path(os.environ.get("SHOP_TABLES", "tables"))
TOKEN = os.environ["SHOP_TOKEN"]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline in git and DVC over the version of one table, and a training stage."""
    folder = tmp_path_factory.mktemp("making") / "shop"
    places.repository(folder)
    (folder / "dvc.lock").unlink()
    places.delta(folder / "tables/rides")
    store = on_sqlite(folder)
    store.client.create_registered_model("demand")
    write(folder)
    places.write(folder / "pipeline/extract.py", EXTRACT)
    places.write(folder / "params.yaml", "tables: {rides: 0, other: 0}\nseed: 7\n")
    fitted(folder, {"version": 3, "rmse": 0.5})
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in surroundings that name nothing but a secret."""
    for name in ("MLFLOW_TRACKING_URI", "REDIS_URL", "EBBTIDE_SYSTEMS", "SHOP_TABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHOP_TOKEN", "hush-4711")
    return shutil.copytree(made, tmp_path / "shop", symlinks=True)


def write(folder: Path, params: str = "tables", wdir: str = ".") -> None:
    (folder / "dvc.yaml").write_text(PIPELINE.format(params=params, wdir=wdir))


def fitted(folder: Path, says: dict[str, Any]) -> None:
    places.write(folder / "data/fitted.json", json.dumps(says))


def layers(folder: Path, *words: str, answers: str = "") -> dict[str, Any]:
    """The layers of the file that is written; `said` has what was printed."""
    asked = [] if answers else ["--yes"]
    command = ["init", "shop", "--root", str(folder), "--force", *asked, *words]
    run = CliRunner().invoke(app, command, input=answers)
    assert run.exit_code == 0, run.output
    written = folder / "configs/systems/shop.yaml"
    read_system_file(written)
    found = yaml.safe_load(written.read_text())["layers"]
    return {**found, "said": " ".join(run.output.split())}


def test_parameters_variables_and_the_training_stage_are_written(shop: Path) -> None:
    found = layers(shop)
    (made,) = found["features"].values()
    assert made["tables"] == {"rides": "params.yaml:tables.rides"}
    assert made["environment"] == {"SHOP_TABLES": "{root}/tables"}
    assert found["model"]["demand"]["train"] == {
        "stage": "fit", "result": "data/fitted.json", "features": "features",
        "metric": "rmse", "better": "lower",
    }  # fmt: skip
    assert "hush-4711" not in (shop / "configs/systems/shop.yaml").read_text()
    assert "layers.features" not in found["said"] and "layers.model" not in found["said"]


@pytest.mark.parametrize(
    ("params", "value"),
    [("seed", "0"), ("tables.rides", "7"), ("tables.rides", "null"), ("tables.rides", "-1")],
)
def test_what_is_no_version_of_the_table_is_left_open_and_said(
    shop: Path, params: str, value: str
) -> None:
    write(shop, params)
    (shop / "params.yaml").write_text(f"tables: {{rides: {value}}}\nseed: 0\n")
    found = layers(shop)
    (made,) = found["features"].values()
    assert "tables" not in made
    assert "`layers.features.features.tables`" in found["said"]
    assert "#tables: {}" in (shop / "configs/systems/shop.yaml").read_text()


def test_a_stage_that_does_not_make_the_features_tells_nothing_of_them(shop: Path) -> None:
    pipeline = (shop / "dvc.yaml").read_text().replace("deps: [data/rides.parquet]", "deps: []")
    (shop / "dvc.yaml").write_text(pipeline)
    assert "tables" not in layers(shop)["features"]["features"]


def test_the_parameters_of_another_file_and_folder_are_found(shop: Path) -> None:
    write(shop, "{../versions.json: [rides_version]}", wdir="pipeline")
    (shop / "versions.json").write_text(json.dumps({"rides_version": 0}))
    pipeline = (shop / "dvc.yaml").read_text()
    (shop / "dvc.yaml").write_text(
        pipeline.replace("deps: [pipeline/extract.py]", "deps: [extract.py]").replace(
            "outs: [data/rides.parquet]", "outs: [../data/rides.parquet]"
        )
    )
    made = layers(shop)["features"]["features"]
    assert made["tables"] == {"rides": "versions.json:rides_version"}
    assert "environment" not in made, "its default leads nowhere from there"


@pytest.mark.parametrize(
    "says", [{"rmse": 0.5}, {"version": 3}, {"version": 3, "rmse": 0.5, "depth": 1.5}, {}]
)
def test_a_training_that_does_not_tell_all_is_left_open_and_said(
    shop: Path, says: dict[str, Any]
) -> None:
    fitted(shop, says)
    found = layers(shop)
    assert "train" not in found["model"]["demand"]
    assert "`layers.model.demand.train`" in found["said"]


def test_a_figure_whose_better_way_is_not_in_its_name_is_asked_for(shop: Path) -> None:
    fitted(shop, {"version": 3, "gain": 0.5, "seconds": 2.5})
    assert "train" not in layers(shop)["model"]["demand"], "nobody is there to say"
    train = layers(shop, answers="training\ngain\nhigher\ny\n")["model"]["demand"]["train"]
    assert (train["metric"], train["better"]) == ("gain", "higher")


def test_suites_that_are_there_are_named(shop: Path) -> None:
    places.write(shop / "configs/gates/rides.yaml", "expectations: []\n")
    assert layers(shop)["data"]["rides"]["suite"] == "rides"


def test_a_table_that_a_job_writes_through_ebbtide_is_an_output(shop: Path) -> None:
    mark = CommitProperties({"ebbtide.run": "a1"})
    rows = arrow({"zone": ["a"], "price": [1.5]})
    write_deltalake(shop / "tables/prices", rows, commit_properties=mark)
    found = layers(shop)
    assert set(found["data"]) == {"rides"}
    written = yaml.safe_load((shop / "configs/systems/shop.yaml").read_text())
    assert written["outputs"] == {"prices": {"path": "tables/prices"}}
