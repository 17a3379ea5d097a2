"""Real parts of systems for the tests of finding them: git + DVC, Delta, MLflow."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake

from tests.integration.registry_store import Store, on_sqlite, until_settled

PIPELINE = """
stages:
  clean:
    cmd: "true"
    outs: [data/clean.csv, data/models]
  build:
    wdir: pipeline
    cmd: "true"
    outs:
      - ../data/features: {persist: true}
      - ../data/${name}
"""
LOCK = """
schema: '2.0'
stages:
  clean:
    cmd: "true"
    outs:
    - {path: data/clean.csv, md5: 0cc175b9c0f1b6a831c399e269772661}
    - {path: data/models, md5: 0cc175b9c0f1b6a831c399e269772661.dir}
  build:
    cmd: "true"
    outs:
    - {path: ../data/features, md5: 92eb5ffee6ae2fec3ad71c777531578f.dir}
    - {path: ../data/named, md5: 92eb5ffee6ae2fec3ad71c777531578f.dir}
"""
HANDLER = """
def load(parts):
    zones = parts.tables["zones"]
    return lambda rows: [1.0] * len(rows)
"""


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def delta(path: Path) -> None:
    write_deltalake(path, pa.table({"zone": ["a"], "rides": [1]}))


def features(folder: Path) -> None:
    (folder / "by day").mkdir(parents=True)
    pq.write_table(pa.table({"zone": ["a"]}), folder / "by day" / "monday.parquet")


def repository(folder: Path) -> None:
    """A git + DVC repository with a pipeline, configuration, serving code and a golden set."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        cwd=folder,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        check=True,
    )
    write(folder / "dvc.yaml", PIPELINE)
    write(folder / "dvc.lock", LOCK)
    write(folder / "config/prices.yaml", "cap: 2.0\n")
    write(folder / "serving/handler.py", HANDLER)
    write(folder / "golden/questions.jsonl", '{"zone": "a"}\n')
    write(folder / "golden/smoke.jsonl", '{"zone": "a"}\n')
    write(folder / ".gitignore", "/data/\n/tables/\n/mlflow.db\n/art/\n/live/\n")
    features(folder / "data/features")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "First")


def whole(folder: Path) -> Store:
    """All of a system: the repository, two tables, a model and a prompt in MLflow."""
    repository(folder)
    delta(folder / "tables/rides")
    delta(folder / "tables/zones")
    store = on_sqlite(folder)
    store.client.create_registered_model("demand")
    store.client.register_prompt("greeting", "Hello {{name}}")
    until_settled()
    return store
