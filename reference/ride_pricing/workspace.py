"""A workspace: the reference system as a repository, registry and tables of its own.

`create` makes it; the `build` methods make the versions that are released in the
demo, each by an ordinary commit after `dvc repro`. Beside every version it keeps
a copy of what it was made of, so that answers can be worked out without ebbtide.
"""

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ebbtide.core.errors import EbbtideError, Refused
from reference.ride_pricing.commands import Progress, follow, run
from reference.ride_pricing.rides import City

if TYPE_CHECKING:
    from mlflow import MlflowClient

HERE = Path(__file__).parent
TEMPLATE = HERE / "template"
CHANGES = HERE / "releases"
SYSTEM = "ride-pricing"
PROMPT = "rider-message"
MODEL = "ride-demand"
EXPERIMENT = MODEL
FEATURES = "data/features"
REGISTRY = "mlflow.db"
Parameters = Mapping[str, Mapping[str, Any]]
"""Values for params.yaml, by section and name."""
_COPIED = {"features": FEATURES, "config": "config", "serving": "serving"}
_RECORD = "aside/versions.json"
_ABOUT = "aside/workspace.json"
_TRAFFIC = "aside/questions.jsonl"


@dataclass(frozen=True, slots=True)
class Version:
    """One state of the workspace that can be released."""

    name: str
    commit: str
    model: str
    """Version of the registered model."""
    prompt: str
    """Version of the prompt."""
    why: str
    """First line of the commit message."""
    validation_error: float
    """What the training itself measured on the held-out week, as a share of its rides."""


@dataclass(frozen=True)
class Workspace:
    """A created workspace. `folder` is absolute."""

    folder: Path
    city: City
    progress: Progress = print

    @property
    def system_file(self) -> Path:
        return self.folder / "configs/systems" / f"{SYSTEM}.yaml"

    @property
    def questions(self) -> Path:
        """Every row that a rider may ask, as JSON Lines."""
        return self.folder / _TRAFFIC

    @property
    def expected(self) -> Path:
        """The folder in which the traffic client looks for each release's answers."""
        return self.folder / "aside/expected"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.folder / REGISTRY}"

    @property
    def versions(self) -> Mapping[str, Version]:
        """What was built so far, by name, oldest first."""
        record = self.folder / _RECORD
        if not record.exists():
            return {}
        found = json.loads(record.read_text())
        return {each["name"]: Version(**each) for each in found}

    def build_v1(self) -> Version:
        """Demand by the calendar, the weather and the same hour of last week."""
        return self.build("v1", "Price rides by last week's demand")

    def build_v2(self) -> Version:
        """An honest improvement: a further feature, a lower fare and cap, a plainer message."""
        why = "Demand also by the last four weeks; lower fare and cap"
        return self.build("v2", why, files=["v2"])

    def build_v3_bad(self) -> Version:
        """The incident: a new feature pipeline and a model trained on what it makes.

        It joins each count with every observation near it, so counts with two
        are counted twice, in the features and in what the model is trained to
        predict: about a third too much, and the held-out week is inflated alike.
        It also gives the lags in another unit under the same names.
        """
        why = "Rain from all observations near a ride; lags in rides per hour"
        return self.build("v3", why, files=["v3"])

    def build(
        self, name: str, why: str, *, files: Sequence[str] = (), params: Parameters | None = None
    ) -> Version:
        """A version of the folder as it is now, with changes: it is run, committed and kept.

        `files` are folders of `releases`, laid over it in that order. Raises
        `EbbtideError` where that name was built before.
        """
        if name in self.versions:
            raise EbbtideError(f"{name} was built already in {self.folder}.")
        for change in files:
            shutil.copytree(CHANGES / change, self.folder, dirs_exist_ok=True)
        set_parameters(self.folder, params or {})
        prompt = self._register_prompt()
        self._reproduce(name)
        trained = json.loads((self.folder / "data/trained.json").read_text())
        commit = self.commit(why)
        self._tag_pipeline(trained["version"], commit)
        built = Version(name, commit, trained["version"], prompt, why, trained["validation_error"])
        self._keep(built)
        return built

    def aside(self, version: str) -> Path:
        """The copy of what a version was made of."""
        return self.folder / "aside" / version

    def commit(self, why: str) -> str:
        """Commit everything; the commit's full id."""
        run("git", "add", "--all", cwd=self.folder)
        run("git", "commit", "--quiet", "--message", why, cwd=self.folder)
        return run("git", "rev-parse", "HEAD", cwd=self.folder)

    def registry(self) -> "MlflowClient":
        """A client of this workspace's own MLflow."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        return MlflowClient(self.tracking_uri, self.tracking_uri)

    def _register_prompt(self) -> str:
        """The prompt's version: a new one only where the text is new."""
        text = (self.folder / f"prompts/{PROMPT}.txt").read_text().strip()
        built = list(self.versions.values())
        if built and (self.aside(built[-1].name) / "prompt.txt").read_text() == text:
            return built[-1].prompt
        return str(self.registry().register_prompt(PROMPT, text).version)

    def _reproduce(self, name: str) -> None:
        def tell(line: str) -> None:
            if line.startswith("Running stage"):
                self.progress(f"{name}: {line.split(chr(39))[1]}")

        uri = {"MLFLOW_TRACKING_URI": self.tracking_uri}
        follow(sys.executable, "-m", "dvc", "repro", cwd=self.folder, line=tell, env=uri)

    def _tag_pipeline(self, model: str, commit: str) -> None:
        """Say which pipeline the model was trained on: known only once it is committed."""
        from ebbtide.adapters.dvc.lock import read_output
        from ebbtide.adapters.dvc.recipes import apart
        from ebbtide.adapters.git.repository import Repository
        from ebbtide.adapters.system.file import read_system_file

        data = apart(read_system_file(self.system_file).layers.features["demand"])
        pipeline = read_output(Repository(self.folder), commit, FEATURES, data).pipeline
        self.registry().set_model_version_tag(MODEL, model, "ebbtide.trained_pipeline", pipeline)

    def _keep(self, built: Version) -> None:
        aside = self.aside(built.name)
        for name, path in _COPIED.items():
            shutil.copytree(self.folder / path, aside / name)
        text = (self.folder / f"prompts/{PROMPT}.txt").read_text().strip()
        (aside / "prompt.txt").write_text(text)
        record = [asdict(version) for version in (*self.versions.values(), built)]
        (self.folder / _RECORD).write_text(json.dumps(record, indent=2))


def create(folder: Path, seed: int = 7, progress: Progress = print) -> Workspace:
    """Make a workspace in a new or empty folder, outside of any git repository.

    Raises `Refused`, with nothing written, for any other folder.
    """
    folder = folder.resolve()
    _refuse_unless_free(folder)
    workspace = Workspace(folder, City(seed), progress)
    progress("workspace: repository, tables and registry")
    _write_files(workspace)
    _write_tables(workspace)
    _start_repository(folder)
    _start_registry(workspace)
    workspace.commit("A workspace for ride pricing")
    return workspace


def reopen(folder: Path, progress: Progress = print) -> Workspace:
    """A workspace that was created before. Raises `Refused` where it is none."""
    about = folder.resolve() / _ABOUT
    if not about.exists():
        raise Refused(f"{folder} is not a workspace of the reference system.")
    return Workspace(folder.resolve(), City(json.loads(about.read_text())["seed"]), progress)


def set_parameters(folder: Path, params: Parameters) -> None:
    """Change values in the params.yaml of a checkout; the others stay."""
    if not params:
        return
    path = folder / "params.yaml"
    found = yaml.safe_load(path.read_text())
    for section, values in params.items():
        found[section] |= values
    path.write_text(yaml.safe_dump(found, sort_keys=False))


def start_registry(uri: str, artifacts: Path) -> "MlflowClient":
    """A new MLflow with the experiment of the pipeline; artifacts in a folder of its own."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    client.create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri())
    return client


def _refuse_unless_free(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise Refused(f"{folder} is not an empty folder.", remedy="Name a new one.")
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    try:
        inside = run("git", "rev-parse", "--show-toplevel", cwd=there)
    except EbbtideError:
        return
    raise Refused(
        f"{folder} lies inside the git repository {inside}.",
        remedy="A workspace is a repository of its own: name a folder outside.",
    )


def _write_files(workspace: Workspace) -> None:
    folder, city = workspace.folder, workspace.city
    shutil.copytree(
        TEMPLATE,
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (folder / "gitignore").rename(folder / ".gitignore")
    _write(folder / "calendar/events.csv", city.calendar())
    _write(folder / "golden/questions.jsonl", _lines(city.hard_questions()))
    _write(folder / "golden/smoke.jsonl", _lines(city.smoke_questions()))
    _write(folder / _TRAFFIC, _lines(city.questions()))
    _write(folder / _ABOUT, json.dumps({"seed": city.seed}))


def _write_tables(workspace: Workspace) -> None:
    from deltalake import write_deltalake

    city, tables = workspace.city, workspace.folder / "tables"
    for name, rows in {
        "rides": city.rides,
        "weather": city.weather,
        "zones": city.zones,
    }.items():
        write_deltalake(tables / name, rows())


def _start_repository(folder: Path) -> None:
    run("git", "init", "--quiet", "--initial-branch", "main", cwd=folder)
    settings = {
        "user.name": "Ride pricing",
        "user.email": "ride-pricing@example.invalid",
        "commit.gpgsign": "false",
        "core.autocrlf": "false",
        "core.hooksPath": ".git/hooks",
    }
    for name, value in settings.items():
        run("git", "config", "--local", name, value, cwd=folder)
    run(sys.executable, "-m", "dvc", "init", "--quiet", cwd=folder)
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")


def _start_registry(workspace: Workspace) -> None:
    """MLflow on SQLite with a write-ahead log; artifacts in a folder of the workspace."""
    with sqlite3.connect(workspace.folder / REGISTRY) as database:
        database.execute("PRAGMA journal_mode=WAL")
    database.close()
    start_registry(workspace.tracking_uri, workspace.folder / "mlartifacts")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
