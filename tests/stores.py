"""The oracle: reads the outside stores by other means than ebbtide's adapters.

Plain SQL for MLflow, the Delta log as JSON, links and bytes for folders, git's
own command line, and the cache's own library.
"""

import hashlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import diskcache


def shown(root: Path, journal: Path) -> dict[str, Any]:
    """What each outside pointer of a ride-pricing workspace shows now."""
    return {
        "route": route(journal),
        "model": alias(root, "ride-demand", "champion"),
        "prompt": alias(root, "rider-message", "production"),
        "features": folder(root / "live/features"),
        "config": folder(root / "live/config"),
        "infra": folder(root / "live/serving"),
        "zones": table(root / "tables/zones"),
        "rides": table(root / "tables/rides"),
    }


def of_version(root: Path, name: str, release: str, zones: int) -> dict[str, Any]:
    """What they must show while a version serves, from what was kept of it aside."""
    versions = {
        each["name"]: each for each in json.loads((root / "aside/versions.json").read_text())
    }
    version, aside = versions[name], root / "aside" / name
    return {
        "route": release,
        "model": str(version["model"]),
        "prompt": str(version["prompt"]),
        "features": folder(aside / "features"),
        "config": committed(root, version["commit"], "config"),
        "infra": committed(root, version["commit"], "serving"),
        "zones": table(root / "tables/zones", zones),
        "rides": table(root / "tables/rides"),
    }


def route(journal: Path) -> str:
    """The release that the journal's route names."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT release FROM routes").fetchone()
    return str(found[0]) if found else ""


def alias(root: Path, model: str, name: str) -> str:
    """The version that holds an alias in MLflow's own tables."""
    query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
    with closing(sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True)) as database:
        found = database.execute(query, (model, name)).fetchone()
    return str(found[0]) if found else ""


def registered(root: Path, model: str) -> list[int]:
    """Every version of a model in MLflow's own tables."""
    query = "SELECT version FROM model_versions WHERE name = ?"
    with closing(sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True)) as database:
        return sorted(version for (version,) in database.execute(query, (model,)))


def registry(root: Path) -> list[tuple[Any, ...]]:
    """Every alias and every tag of a version in MLflow's own tables."""
    queries = (
        "SELECT name, alias, version FROM registered_model_aliases",
        "SELECT name, version, key, value FROM model_version_tags",
    )
    with closing(sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True)) as database:
        return sorted((row for query in queries for row in database.execute(query)), key=str)


def folder(path: Path) -> Mapping[str, str]:
    """Every file below a folder, or below what a link leads to, with its md5."""
    there = Path(os.path.realpath(path))
    files = sorted(each for each in there.rglob("*") if each.is_file())
    return {
        str(each.relative_to(there)): hashlib.md5(each.read_bytes()).hexdigest() for each in files
    }


def committed(root: Path, commit: str, path: str) -> Mapping[str, str]:
    """The same, of a folder in a commit, by git's own command line."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True).stdout

    names = git("ls-tree", "-r", "--name-only", commit, path).decode().splitlines()
    return {
        name.removeprefix(f"{path}/"): hashlib.md5(git("show", f"{commit}:{name}")).hexdigest()
        for name in names
    }


def table(path: Path, version: int | None = None) -> list[str]:
    """The data files of a Delta table, at a version or now, replayed from its log."""
    files: set[str] = set()
    for entry in sorted((path / "_delta_log").glob("*.json")):
        if version is not None and int(entry.stem) > version:
            break
        for line in entry.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                files.add(action["add"]["path"])
            if "remove" in action:
                files.discard(action["remove"]["path"])
    return sorted(files)


def newest(path: Path) -> int:
    """The newest version of a Delta table, by its log."""
    return max(int(entry.stem) for entry in (path / "_delta_log").glob("*.json"))


def cache_token(state: Path, system: str) -> str:
    """The epoch's token as an outside reader of the cache finds it."""
    with diskcache.Cache(str(state / "cache")) as cache:
        return str(cache.get(f"ebbtide:{system}:epoch", default=""))


def route_token(journal: Path) -> str:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        return str(database.execute("SELECT token FROM routes").fetchone()[0])
