"""Two small systems of one team, side by side in one repository and one journal.

`TWO_LAYERS` is a model that answers rows by itself, with a configuration beside
it. `TWO_MODELS` has serving code that adds up what two models answer. Neither
has features or tables.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tests import stores
from tests.acceptance.bikes.commands import adopt, asked, python, serving, url_of
from tests.acceptance.bikes.expected import registered
from tests.acceptance.bikes.hours import counted
from tests.acceptance.bikes.traffic import Clients, Row, clients
from tests.acceptance.bikes.workspace import commit, start_repository

TEMPLATE = Path(__file__).parent / "small_template"
_INPUTS = ["hour", "weekday", "workingday", "weather", "temp", "humidity"]
_SEASON = ("2012-06-01", "2012-09-24")
_WEEK = ("2012-09-24", "2012-10-01")

Versions = Mapping[str, str]
"""Registry versions of a release's models, by thing."""


@dataclass(frozen=True, slots=True)
class Small:
    """What one of them is made of, and what its last release gets wrong."""

    system: str
    models: Mapping[str, str]
    """Target column by thing; the registered model is named `bike-<thing>`."""
    trees: Sequence[int]
    units: Sequence[int]
    """By version: how many rentals make one of the model's answers."""
    folder: str
    """The folder that is versioned in git and goes back as well."""
    flags: Sequence[str]
    """For `ebbtide init`, beside the models."""
    bad: tuple[str, str]
    """The file that the bad release changes, and to what."""
    releases: Sequence[int]
    """Which versions of the models are released, the last of them bad."""
    level_one: Sequence[str]
    """Options of the rollback of the model alone."""
    afterwards: Versions
    """What must serve after it."""


TWO_LAYERS = Small(
    system="bike-hours",
    models={"hours": "rentals"},
    trees=(20, 40, 40),
    units=(1, 1, 12),
    folder="config",
    flags=("--config", "answers=config", "--serving", "none"),
    bad=("config/answers.yaml", "unit: 12\n"),
    releases=(1, 2, 3),
    level_one=(),
    afterwards={"hours": "1"},
)
TWO_MODELS = Small(
    system="bike-customers",
    models={"casual": "casual", "registered": "registered"},
    trees=(20, 40, 40),
    units=(1, 1, 12),
    folder="serving",
    flags=("--config", "none", "--serving", "serving=serving/add_up.py"),
    bad=("serving/README", "Answers are in dozens.\n"),
    releases=(2, 3),
    level_one=("--model", "casual=1"),
    afterwards={"casual": "1", "registered": "2"},
)


@dataclass
class Played:
    """What was done with one of them, and what was seen."""

    small: Small
    folder: Path
    pool: list[Row]
    releases: dict[int, str] = field(default_factory=dict)
    """Release ids by the version of their models."""
    commits: dict[int, str] = field(default_factory=dict)
    sagas: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    shown: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    clients: Clients = field(init=False)

    @property
    def composed(self) -> str:
        """The release that served after the model alone went back."""
        return str(self.sagas["model"]["target"])

    def see(self, moment: str) -> None:
        aliases = {
            thing: stores.alias(self.folder, f"bike-{thing}", "champion")
            for thing in self.small.models
        }
        live = stores.folder(self.folder / "live" / self.small.folder)
        self.shown[moment] = {"models": aliases, "folder": live}

    def as_released(self, n: int) -> Mapping[str, Any]:
        """What must be shown while a version serves."""
        return {
            "models": dict.fromkeys(self.small.models, str(n)),
            "folder": stores.committed(self.folder, self.commits[n], self.small.folder),
        }

    def expected(self) -> Mapping[str, Sequence[Any]]:
        """Each release's answers, by the registry and nothing of ebbtide."""
        made = {
            release: dict.fromkeys(self.small.models, str(n))
            for n, release in self.releases.items()
        }
        made[self.composed] = dict(self.small.afterwards)
        return {release: self._answers(versions) for release, versions in made.items()}

    def _answers(self, versions: Versions) -> Sequence[Any]:
        rows = pd.DataFrame(self.pool)
        given = {
            thing: registered(self.folder, f"bike-{thing}", version).predict(rows).tolist()
            for thing, version in versions.items()
        }
        if len(given) == 1:
            return list(*given.values())
        pairs = zip(given["casual"], given["registered"], strict=True)
        return [{"casual": c, "registered": r, "rentals": c + r} for c, r in pairs]


def play(folder: Path) -> Mapping[str, Played]:
    """Both, one after the other: releases, a bad one, all of it back, a model alone back."""
    rows = counted(*_WEEK)
    rows["hour"] = _hour(rows)
    pool = rows[_INPUTS].astype("float64").to_dict("records")
    _build(folder, pool)
    played = {each.system: Played(each, folder, pool) for each in (TWO_LAYERS, TWO_MODELS)}
    for each in played.values():
        _play(each)
    return played


def _play(found: Played) -> None:
    folder, system = found.folder, found.small.system
    with serving(system, folder):
        _record(found)
        for release in found.releases.values():
            asked("promote", system, release, "--yes", cwd=folder)
        with clients(url_of(system, folder), found.pool) as found.clients:
            found.clients.answered_by(found.releases[3])
            found.see("bad")
            found.sagas["rollback"] = asked("rollback", system, "--yes", cwd=folder)
            found.clients.answered_by(found.releases[2])
            found.see("rolled back")
            words = ("rollback", "model", system, *found.small.level_one, "--yes")
            found.sagas["model"] = asked(*words, cwd=folder)
            found.clients.answered_by(found.composed)
            found.see("model rolled back")


def _build(folder: Path, pool: list[Row]) -> None:
    """The repository, every version of every model, and the system files."""
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "gitignore").rename(folder / ".gitignore")
    season = counted(*_SEASON)
    season.assign(hour=_hour(season)).to_csv(folder / "counted.csv", index=False)
    (folder / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool[::7]))
    orders = [
        {"model": f"bike-{thing}", "target": target, "trees": trees, "unit": unit}
        for small in (TWO_LAYERS, TWO_MODELS)
        for thing, target in small.models.items()
        for trees, unit in zip(small.trees, small.units, strict=True)
    ]
    python("train_models.py", *map(json.dumps, orders), cwd=folder)
    start_repository(folder)
    commit(folder, "Two small systems for bikes")
    for small in (TWO_LAYERS, TWO_MODELS):
        models = [word for thing in small.models for word in ("--model", f"{thing}=bike-{thing}")]
        options = [*models, *small.flags, "--golden", "golden.jsonl", "--port", "0"]
        adopt(small.system, *options, cwd=folder)


def _record(found: Played) -> None:
    small, folder = found.small, found.folder
    for n in small.releases:
        if n == small.releases[-1]:
            file, text = small.bad
            (folder / file).write_text(text)
        found.commits[n] = commit(folder, f"{small.system}, release {n}")
        models = [word for thing in small.models for word in ("--model", f"{thing}={n}")]
        words = ("release", small.system, "--at", found.commits[n], *models)
        found.releases[n] = asked(*words, cwd=folder)["id"]


def _hour(rows: pd.DataFrame) -> pd.Series:
    return rows["at"].str.slice(11, 13).astype(int)
