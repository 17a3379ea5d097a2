"""The rental service's own repository, pipeline, registry and tables, release by release."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml
from deltalake import DeltaTable, write_deltalake

from tests.acceptance.bikes.commands import adopt, asked, python, run
from tests.acceptance.bikes.hours import counted

TEMPLATE = Path(__file__).parent / "template"
SYSTEM = "bike-planning"
MODEL = "bike-demand"
_SEASON = ("2012-06-01", "2012-09-24")
_WEEK = ("2012-09-24", "2012-10-01")
_LATE = ("2012-05-18", "2012-06-01")
_HIDDEN = ["casual", "registered", "rentals"]


@dataclass(frozen=True, slots=True)
class Version:
    """A state of the workspace that was recorded as a release."""

    release: str
    commit: str
    model: str
    crews: int
    """Version of the reference table."""
    held_out_error: float
    """What the training measured itself."""
    aside: Path
    """A copy of its features and configuration."""


@dataclass
class Workspace:
    """`folder` is absolute and becomes a repository of its own."""

    folder: Path
    versions: dict[str, Version] = field(default_factory=dict)
    rentals: int = 0
    """Newest version of the table of rentals, which only ever grows."""

    @property
    def journal(self) -> Path:
        return self.folder / ".ebbtide/journal.db"

    @property
    def happened(self) -> pd.DataFrame:
        """The coming week as it turned out: what no pipeline here can see."""
        return counted(*_WEEK)

    def create(self) -> None:
        """Files, tables, a git and a DVC repository; no release yet."""
        shutil.copytree(TEMPLATE, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "gitignore").rename(self.folder / ".gitignore")
        season, week = counted(*_SEASON), counted(*_WEEK)
        week[_HIDDEN] = None
        self._append(pd.concat([season, week], ignore_index=True))
        self.staff(2)
        hours = [{"at": at} for at in week["at"]]
        self._write("golden/questions.jsonl", _lines(hours[::7]))
        self._write("golden/smoke.jsonl", _lines(hours[8:10]))
        start_repository(self.folder)
        python("-m", "dvc", "init", "--quiet", cwd=self.folder)

    def append_late_counts(self) -> int:
        """Two weeks that were counted late: lineage, as honest appends are."""
        return self._append(counted(*_LATE))

    def staff(self, by_day: int) -> int:
        """Write who works when; the version that the table has then."""
        crews = [by_day if 6 <= hour < 22 else 1 for hour in range(24)]
        path = self.folder / "tables/crews"
        write_deltalake(path, pa.table({"hour": list(range(24)), "crews": crews}), mode="overwrite")
        return DeltaTable(path).version()

    def edit(self, file: str, **changes: Any) -> None:
        """Change a YAML file of the workspace: keys, or keys of keys."""
        path = self.folder / file
        found = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            found[key] = found[key] | value if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(found))

    def build(self, why: str) -> str:
        """Run the pipeline and commit what it made; the commit."""
        python("-m", "dvc", "repro", "--quiet", cwd=self.folder)
        return commit(self.folder, why)

    def adopt(self) -> None:
        """Let ebbtide look at what is there, and say what it cannot see."""
        adopt(
            SYSTEM,
            *("--mlflow", "sqlite:///mlflow.db", "--model", f"demand={MODEL}"),
            *("--features", "demand=data/features"),
            *("--table", "rentals=tables/rentals=training"),
            *("--table", "crews=tables/crews=reference"),
            *("--config", "planning=config", "--serving", "serving=serving/plan_bikes.py"),
            *("--golden", "golden/questions.jsonl", "--port", "0"),
            cwd=self.folder,
        )
        self._name_what_features_are_made_of()

    def record(self, name: str, commit: str) -> Version:
        """Record a release of what was built last, and keep aside what it was made of."""
        recorded = asked("release", SYSTEM, "--at", commit, "--note", name, cwd=self.folder)
        trained = json.loads((self.folder / "data/trained.json").read_text())
        aside = self.folder / "aside" / name
        shutil.copytree(self.folder / "data/features", aside / "features")
        shutil.copytree(self.folder / "config", aside / "config")
        crews = DeltaTable(self.folder / "tables/crews").version()
        made = Version(recorded["id"], commit, trained["version"], crews, trained["error"], aside)
        self.versions[name] = made
        return made

    def _name_what_features_are_made_of(self) -> None:
        """What nobody can see from outside: how the pipeline is told which rentals to read."""
        path = self.folder / f"configs/systems/{SYSTEM}.yaml"
        found = yaml.safe_load(path.read_text())
        found["layers"]["features"]["demand"] |= {
            "tables": {"rentals": "params.yaml:rentals"},
            "environment": {"TABLES": "{root}/tables"},
        }
        path.write_text(yaml.safe_dump(found, sort_keys=False))

    def _append(self, hours: pd.DataFrame) -> int:
        """Add hours to the table of rentals; the version that it has then."""
        kept = hours.drop(columns=["casual", "registered"]).astype({"rentals": "float64"})
        path = self.folder / "tables/rentals"
        write_deltalake(path, pa.Table.from_pandas(kept, preserve_index=False), mode="append")
        self.rentals = DeltaTable(path).version()
        return self.rentals

    def _write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def start_repository(folder: Path) -> None:
    run("git", "init", "--quiet", "--initial-branch", "main", cwd=folder)
    for name, value in {
        "user.name": "Bikes",
        "user.email": "bikes@example.invalid",
        "commit.gpgsign": "false",
    }.items():
        run("git", "config", "--local", name, value, cwd=folder)


def commit(folder: Path, why: str) -> str:
    """Commit everything, even nothing; the commit's full hash."""
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--allow-empty", "--message", why, cwd=folder)
    return run("git", "rev-parse", "HEAD", cwd=folder).out.strip()


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
