"""A git + DVC repository with a pipeline of two stages, and features as a layer on it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ebbtide.adapters.dvc.features import Features
from ebbtide.adapters.system.file import FeaturesThing
from tests.once import made_once, shared_by_workers

PIPELINE = """
stages:
  clean:
    cmd: python code/clean.py
    deps: [code/clean.py, data]
    outs: [clean.txt]
  build:
    cmd: python code/build.py ${factor}
    deps: [code/build.py, code/shared, clean.txt]
    params: [factor]
    outs: [features]
"""
CLEAN = """
import pathlib
rows = pathlib.Path("data/raw.txt").read_text().split()
pathlib.Path("clean.txt").write_text(" ".join(row for row in rows if float(row) > 0))
"""
BUILD = """
import pathlib, sys
import pyarrow as pa, pyarrow.parquet as pq
rows = [float(row) * float(sys.argv[1]) for row in pathlib.Path("clean.txt").read_text().split()]
pathlib.Path("features/by day").mkdir(parents=True)
pq.write_table(pa.table({"demand": rows}), "features/by day/monday.parquet")
pq.write_table(pa.table({"zone": ["a"], "demand": [1]}), "features/zones.parquet")
pathlib.Path("features/made.txt").write_text("made")
"""


def run(repository: Path, *command: str) -> str:
    env = {
        **os.environ,
        "DVC_NO_ANALYTICS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    ended = subprocess.run(
        command, cwd=repository, env=env, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip()


def reproduce(repository: Path) -> None:
    run(repository, sys.executable, "-m", "dvc", "repro", "--quiet")


def commit(repository: Path, message: str) -> str:
    run(repository, "git", "add", "--all")
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    run(repository, "git", *who, "commit", "--quiet", "--message", message)
    return run(repository, "git", "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commits: first; same (only words differ); fresh (new data); tuned (another factor)."""
    shared = shared_by_workers(tmp_path_factory) / "features-repository"
    return made_once(shared, _make) / "pricing"


def _make(folder: Path) -> None:
    repository = folder / "pricing"
    (repository / "code" / "shared").mkdir(parents=True)
    (repository / "data").mkdir()
    run(repository, "git", "init", "--quiet", "--initial-branch=main")
    run(repository, sys.executable, "-m", "dvc", "init", "--quiet")
    (repository / "dvc.yaml").write_text(PIPELINE)
    (repository / "params.yaml").write_text("factor: 2.0\n")
    (repository / "code" / "clean.py").write_text(CLEAN)
    (repository / "code" / "build.py").write_text(BUILD)
    (repository / "code" / "shared" / "zones.py").write_text("ZONES = ['a']\n")
    (repository / "data" / "raw.txt").write_text("1 2 -3")
    run(repository, sys.executable, "-m", "dvc", "add", "--quiet", "data/raw.txt")
    reproduce(repository)
    named = {"first": commit(repository, "first")}
    (repository / "words.md").write_text("Words.")
    named["same"] = commit(repository, "same")
    (repository / "data" / "raw.txt").write_text("1 2 4")
    run(repository, sys.executable, "-m", "dvc", "add", "--quiet", "data/raw.txt")
    reproduce(repository)
    named["fresh"] = commit(repository, "fresh")
    (repository / "params.yaml").write_text("factor: 3.0\n")
    reproduce(repository)
    named["tuned"] = commit(repository, "tuned")
    run(repository, "git", "tag", "v1", named["first"])
    (folder / "commits.json").write_text(json.dumps(named))


@pytest.fixture
def commits(template: Path) -> dict[str, str]:
    named = json.loads((template.parent / "commits.json").read_text())
    assert isinstance(named, dict)
    return named


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "pricing"
    shutil.copytree(template, copy, symlinks=True)
    run(copy, "git", "status")  # git writes the new file times into its index.
    return copy


@pytest.fixture
def features(repository: Path, tmp_path: Path) -> Features:
    thing = FeaturesThing(repository="pricing", out="features", link="live/features")
    return Features(tmp_path / "state", {"demand": thing}, lambda path: (tmp_path / path).resolve())


def snapshot(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Every file with its bytes, mode and time: what must not change."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def objects(repository: Path) -> list[Path]:
    return [path for path in (repository / ".dvc/cache/files").rglob("*") if path.is_file()]


def object_of(repository: Path, content: bytes) -> Path:
    """Where DVC's cache has a content, found by reading all that is there."""
    return next(path for path in objects(repository) if path.read_bytes() == content)


def demand(folder: Path) -> list[float]:
    return list(pq.ParquetFile(folder / "by day" / "monday.parquet").read()["demand"].to_pylist())
