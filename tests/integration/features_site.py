"""A git + DVC repository in a folder of a larger one, and a Delta table that its pipeline reads."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from ebbtide.adapters.delta.tables import Tables
from ebbtide.adapters.dvc.features import Features
from ebbtide.adapters.system.file import DataThing, FeaturesThing
from ebbtide.core.release import Pin, Release
from tests.once import made_once, shared_by_workers

WAIT = 60.0
"""Seconds until something must have happened, also on a busy machine."""
PIPELINE = """
stages:
  extract:
    cmd: python code/extract.py
    deps: [code/extract.py]
    params: [tables]
    outs: [rides.parquet]
  build:
    cmd: python code/build.py ${factor}
    deps: [code/build.py, rides.parquet]
    params: [factor]
    outs: [features]
"""
EXTRACT = """
import os, pathlib
import pyarrow as pa, pyarrow.parquet as pq
from deltalake import DeltaTable
version = int(pathlib.Path("params.yaml").read_text().split("rides:")[1].split()[0])
table = DeltaTable(os.environ["TABLES"] + "/rides", version=version)
rows = pa.RecordBatchReader.from_stream(table.scan()).read_all()
pq.write_table(rows.sort_by("rides"), "rides.parquet")
"""
BUILD = """
import pathlib, sys
import pyarrow as pa, pyarrow.parquet as pq
rows = pq.ParquetFile("rides.parquet").read()["rides"].to_pylist()
pathlib.Path("features").mkdir()
made = pa.table({"demand": [row * float(sys.argv[1]) for row in rows]})
pq.write_table(made, "features/history.parquet")
"""


def run(folder: Path, *command: str) -> str:
    env = {
        **os.environ,
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TABLES": str(folder.parents[1] / "tables"),
    }
    ended = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip()


def commit(repository: Path, **files: str) -> str:
    """Commit contents by file name (`build`, `extract`, `params`, `pipeline`)."""
    places = {
        "build": "code/build.py",
        "extract": "code/extract.py",
        "params": "params.yaml",
        "pipeline": "dvc.yaml",
    }
    for name, text in files.items():
        (repository / places[name]).write_text(text)
    run(repository, "git", "add", "--all")
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    run(repository, "git", *who, "commit", "--quiet", "--message", "change")
    return run(repository, "git", "rev-parse", "HEAD")


def params(factor: float, rides: int) -> str:
    return f"factor: {factor}\ntables:\n  rides: {rides}\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with versions 0 and 1; commits: one (factor 2, of 0), two (factor 3, of 1)."""
    return made_once(shared_by_workers(tmp_path_factory) / "features-site", _make)


def _make(home: Path) -> None:
    write_deltalake(home / "tables/rides", pa.table({"rides": [1.0, 2.0]}))
    write_deltalake(home / "tables/rides", pa.table({"rides": [4.0]}), mode="append")
    repository = home / "large" / "pricing"
    (repository / "code").mkdir(parents=True)
    run(home / "large", "git", "init", "--quiet", "--initial-branch=main")
    run(repository, sys.executable, "-m", "dvc", "init", "--quiet", "--subdir")
    (home / "large" / "words.md").write_text("Words.")
    named: list[str] = []
    files = {"pipeline": PIPELINE, "extract": EXTRACT, "build": BUILD}
    for factor, version in ((2.0, 0), (3.0, 1)):
        commit(repository, params=params(factor, version), **files)
        run(repository, sys.executable, "-m", "dvc", "repro", "--quiet")
        named.append(commit(repository))
    (home / "commits.json").write_text(json.dumps(named))


@dataclass
class Site:
    """One copy of all that, with the layers on it."""

    home: Path
    one: str
    two: str

    @property
    def repository(self) -> Path:
        return self.home / "large" / "pricing"

    @property
    def state(self) -> Path:
        return self.home / "state"

    def at(self, path: str) -> Path:
        return (self.home / path).resolve()

    def tables(self) -> Tables:
        return Tables({"rides": DataThing(path="tables/rides", role="training")}, self.at)

    def features(self, within: float = WAIT, state: Path | None = None) -> Features:
        thing = FeaturesThing(
            repository="large/pricing",
            out="features",
            link="live/features",
            tables={"rides": "params.yaml:tables.rides"},
            environment={"TABLES": "{root}/tables"},
            within=within,
        )
        return Features(
            state or self.state,
            {"demand": thing},
            self.at,
            tracking_uri="sqlite:///mlflow.db",
            fingerprint=lambda table, version: self.tables().pin(table, version).digest,
        )

    def release(self, commit: str, rides: str) -> Release:
        """Features as a commit's dvc.lock has them, over a version of the table."""
        pins = {"features": (self.features().pin("demand", commit),)}
        return Release("pricing", {**pins, "data": (self.tables().pin("rides", rides),)})

    def make(self, commit: str, rides: str = "0", features: Features | None = None) -> Pin:
        """Make the features of a commit's pipeline over a version of the table."""
        layer, within = features or self.features(), self.release(self.two, rides)
        return layer.make(layer.recipe("demand", within, commit), within, silent)

    def left(self) -> list[str]:
        """What is below the folder of runs aside."""
        return [path.name for path in (self.state / "aside").iterdir()]


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Site:
    home = tmp_path / "home"
    shutil.copytree(template, home, symlinks=True)
    site = Site(home, *json.loads((home / "commits.json").read_text()))
    run(site.repository, "git", "status")  # git writes the new file times into its index.
    return site


def silent(_line: str) -> None:
    """Nobody is told."""


def demand(folder: Path) -> list[float]:
    return list(pq.ParquetFile(folder / "history.parquet").read()["demand"].to_pylist())
