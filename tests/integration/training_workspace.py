"""A small pipeline on real git, DVC and MLflow: features of a table, and a model of those."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ebbtide.adapters.dvc.features import Features
from ebbtide.adapters.mlflow.anew import StageTrainer
from ebbtide.adapters.mlflow.models import Models
from ebbtide.adapters.mlflow.pipelines import Pipelines
from ebbtide.adapters.mlflow.training import Trainer
from ebbtide.adapters.system.things import FeaturesThing, ModelThing, Train
from ebbtide.core.release import Pin, Release
from tests.integration.registry_store import Store, fluent, on_sqlite

MODEL = "price"
_DVC = """\
stages:
  features:
    cmd: python features.py
    deps: [features.py, orders.csv]
    outs: [data/features]
  train:
    cmd: python train.py
    deps: [train.py, labels.csv, data/features]
    params: [train]
    outs: [data/trained.json]
"""
_FEATURES = """\
from pathlib import Path
rows = [float(row) for row in Path("orders.csv").read_text().split()]
Path("data/features").mkdir(parents=True)
Path("data/features/demand.csv").write_text("\\n".join(str(row * 2) for row in rows))
"""
TRAIN = """\
import json
from pathlib import Path
import mlflow, yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

class Constant(mlflow.pyfunc.PythonModel):
    def __init__(self, answer):
        self.answer = answer
    def predict(self, context, model_input, params=None):
        return [self.answer] * len(model_input)

train = yaml.safe_load(Path("params.yaml").read_text())["train"]
rows = [float(row) for row in Path("data/features/demand.csv").read_text().split()]
mlflow.set_experiment("price")
with mlflow.start_run() as run:
    mlflow.log_metric("error", train["error"])
    made = mlflow.pyfunc.log_model(
        name="model",
        python_model=Constant(sum(rows) * train["rate"]),
        signature=ModelSignature(Schema([ColSpec("double", "demand")])),
        pip_requirements=["mlflow"],
        registered_model_name="price",
    )
said = {"version": made.registered_model_version, "run": run.info.run_id, "error": train["error"]}
Path("data/trained.json").write_text(json.dumps(said))
"""
_PARAMS = "train: {rate: 1.0, error: 0.2}\n"


@dataclass
class Workshop:
    """One repository with its registry, and ebbtide's two adapters for it."""

    root: Path
    store: Store
    commits: dict[str, str] = field(default_factory=dict)

    def features(self) -> Features:
        return Features(self.root / "state", {"demand": self._features()}, self._at)

    def models(self, *, within: float = 120.0, train: Trainer | None = None) -> Models:
        part = Train(
            stage="train",
            result="data/trained.json",
            features="demand",
            metric="error",
            within=within,
        )
        things = {"price": ModelThing(registered_model=MODEL, train=part)}
        pipelines = Pipelines({"demand": self._features()}, self._at)
        run = train or StageTrainer(pipelines, self.root / "state", self._at, self.store.uri)
        return Models(self.store.uri, "", things, self.root / "state", pipelines, run)

    def release(self, commit: str, version: str) -> Release:
        """What a commit's features and a version of the model make up."""
        features = self.features().pin("demand", self.commits[commit])
        model = self.models().pin("price", version)
        return Release("shop", {"features": (features,), "model": (model,)})

    def commit(self, name: str, **files: str) -> str:
        """Commit files as they are, with nothing run again. `__` in a name stands for a dot."""
        for file, text in files.items():
            (self.root / file.replace("__", ".")).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", name)
        self.commits[name] = self.git("rev-parse", "HEAD")
        return self.commits[name]

    def branch(self, name: str, start: str, **files: str) -> str:
        """A commit on top of another, off the branch that is checked out; that is back after."""
        self.git("checkout", "--quiet", "--detach", self.commits[start])
        try:
            return self.commit(name, **files)
        finally:
            self.git("branch", "--quiet", name, "HEAD")
            self.git("checkout", "--quiet", "main")

    def reproduce(self) -> None:
        self._run(sys.executable, "-m", "dvc", "repro", "--quiet")

    def git(self, *words: str) -> str:
        return self._run("git", *words)

    def versions(self) -> list[str]:
        """Every version number that the registry has, read past every adapter."""
        return [
            str(number)
            for (number,) in self.store.sql(
                "SELECT version FROM model_versions WHERE current_stage != 'Deleted_Internal' "
                "ORDER BY version"
            )
        ]

    def artifacts(self, version: str) -> Path:
        """Where the registry has a version's artifacts."""
        ((source,),) = self.store.sql(
            "SELECT source FROM model_versions WHERE version = ?", version
        )
        ((place,),) = self.store.sql(
            "SELECT artifact_location FROM logged_models WHERE model_id = ?", source.split("/")[-1]
        )
        return Path(unquote(urlsplit(place).path))

    def registered_again(self, version: str, folder: Path, *, tags: bool = True) -> str:
        """The same artifacts from another folder as a version of their own, with its tags."""
        shutil.copytree(self.artifacts(version), folder)
        old = self.store.client.get_model_version(MODEL, version)
        made = self.store.client.create_model_version(
            MODEL, folder.as_uri(), old.run_id, tags=old.tags if tags else {}
        )
        return str(made.version)

    def answer(self, version: str) -> Any:
        import mlflow

        return mlflow.pyfunc.load_model(str(self.artifacts(version))).predict({"demand": [1.0]})

    def read(self, commit: str, file: str) -> str:
        return self.git("show", f"{self.commits[commit]}:{file}") + "\n"

    def standing(self) -> dict[str, tuple[int, int]]:
        """Every file of the checkout outside of ebbtide's state, with its size and time."""
        return {
            str(path): (found.st_size, found.st_mtime_ns)
            for path in self.root.rglob("*")
            if path.is_file()
            and not path.is_relative_to(self.root / "state")
            and not path.is_relative_to(self.root / ".git")
            and not path.is_relative_to(self.root / ".dvc/cache")
            for found in [path.stat()]
        }

    def clone(self, folder: Path) -> "Workshop":
        """The repository with its cache at another place, on the same registry."""
        shutil.copytree(self.root, folder, symlinks=True)
        return Workshop(folder, self.store, dict(self.commits))

    def forget_branches(self) -> None:
        """Delete all but the one that is checked out."""
        for name in self.git("branch", "--format=%(refname:short)").split():
            if name != "main":
                self.git("branch", "--quiet", "-D", name)

    def _features(self) -> FeaturesThing:
        return FeaturesThing(out="data/features", link="live/features")

    def _at(self, path: str) -> Path:
        return Path(os.path.normpath(self.root / path))

    def _run(self, *words: str) -> str:
        here = str(Path(sys.executable).parent)
        names = {f"GIT_{who}_{what}": "shop@example.invalid" for who in ("AUTHOR", "COMMITTER")
                 for what in ("NAME", "EMAIL")}  # fmt: skip
        environment = {
            **os.environ,
            **names,
            "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": self.store.uri,
            "DVC_NO_ANALYTICS": "1",
        }
        said = subprocess.run(
            words, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, f"{words}: {said.stdout}{said.stderr}"
        return said.stdout.strip()


def build(root: Path) -> Workshop:
    """Commit `good`: version 1. Commit `bad`: another pipeline of features, and version 2."""
    registry, repository = root / "registry", root / "repository"
    for folder in (registry, repository):
        folder.mkdir(parents=True)
    store = on_sqlite(registry)
    with fluent(store.uri):
        import mlflow

        mlflow.create_experiment("price", artifact_location=(registry / "artifacts").as_uri())
    shop = Workshop(repository, store)
    shop.git("init", "--quiet", "--initial-branch", "main")
    shop._run(sys.executable, "-m", "dvc", "init", "--quiet")
    (repository / "labels.csv").write_text("1\n2\n")
    shop._run(sys.executable, "-m", "dvc", "add", "--quiet", "labels.csv")
    ignored = (repository / ".gitignore").read_text()
    (repository / ".gitignore").write_text(f"{ignored}/data\n/state\n__pycache__\n")
    files = {"dvc__yaml": _DVC, "params__yaml": _PARAMS, "orders__csv": "1\n2\n3\n"}
    for name, text in {**files, "features__py": _FEATURES, "train__py": TRAIN}.items():
        (repository / name.replace("__", ".")).write_text(text)
    shop.reproduce()
    shop.commit("good")
    (repository / "features.py").write_text(_FEATURES.replace("row * 2", "row * 3"))
    shop.reproduce()
    shop.commit("bad")
    return shop


def other(pin: Pin, **at: str) -> Pin:
    """The same thing with another content."""
    return Pin(pin.name, at.pop("digest", pin.digest), {**pin.at, **at})
