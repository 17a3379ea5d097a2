"""A small system to serve: real models, folders and journal, contents kept by digest.

Each release answers with its own mark from every layer, so that a client can
tell from one answer alone whether layers of two releases were mixed.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any, cast

from ebbtide.adapters.cache import open_cache
from ebbtide.adapters.journal import SqlJournal, open_journal
from ebbtide.core.contents import Contents
from ebbtide.core.digests import digest, tree_digest
from ebbtide.core.errors import NotRestorable
from ebbtide.core.lease import Lease
from ebbtide.core.ports import Policy, Scorer, Serving, World
from ebbtide.core.release import Evidence, Pin, Release
from ebbtide.core.saga import Level, Plan, SagaState

SYSTEM = "marked"
HANDLER = "infra/serving/handler.py"
LOG = "served"
MLFLOW_WARNS = "ignore:.*(type hint|input example):UserWarning"
"""MLflow asks each PythonModel for type hints, and would make a signature of them."""

HANDLER_CODE = """
import json

MARK = {mark!r}


def load(parts):
    model = parts.models["marker"]
    config = json.loads((parts.config["settings"] / "mark.json").read_text())
    prompt = parts.prompts["greeting"]

    def answer(rows):
        marks = model.predict(rows)
        return [
            {{"model": str(mark), "config": config, "prompt": prompt, "infra": MARK, "x": x}}
            for mark, x in zip(marks, rows["x"], strict=True)
        ]

    return answer
"""


class Folders:
    """Contents as folders that are named by their digest."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, name: str, fill: Callable[[Path], object], **at: str) -> Pin:
        with tempfile.TemporaryDirectory(dir=self.root.parent) as made:
            folder = Path(made) / "content"
            folder.mkdir()
            fill(folder)
            found = tree_digest(folder)
            copytree(folder, self.root / found, dirs_exist_ok=True)
        return Pin(name, found, at)

    def prepare(self, pin: Pin) -> None:
        folder = self.root / pin.digest
        if not folder.is_dir() or tree_digest(folder) != pin.digest:
            raise NotRestorable(f"{pin.name} {pin.digest[:10]} is gone or has changed.")

    def problems(self, pin: Pin) -> list[str]:
        try:
            self.prepare(pin)
        except NotRestorable as fault:
            return [fault.message]
        return []

    def path(self, pin: Pin) -> Path:
        return self.root / pin.digest


class Texts:
    """Contents that their pins carry."""

    def add(self, name: str, text: str) -> Pin:
        return Pin(name, digest(text), {"template": text})

    def prepare(self, pin: Pin) -> None: ...

    def problems(self, pin: Pin) -> list[str]:
        return [] if digest(pin.at["template"]) == pin.digest else ["its text has changed"]

    def template(self, pin: Pin) -> str:
        return pin.at["template"]


class Marked:
    """The system's stores below one folder, and its journal."""

    def __init__(
        self,
        folder: Path,
    ) -> None:
        self.folder = folder
        self.models = Folders(folder / "models")
        self.config = Folders(folder / "config")
        self.infra = Folders(folder / "infra")
        self.prompts = Texts()
        self.journal: SqlJournal = open_journal(f"sqlite:///{folder / 'journal.db'}")
        self.cache = open_cache("", folder / "cache", SYSTEM, 600.0)
        layers: Mapping[str, Any] = {
            "model": self.models,
            "config": self.config,
            "infra": self.infra,
            "prompt": self.prompts,
        }
        self.world = World(
            system=SYSTEM,
            policy=Policy(),
            journal=self.journal,
            layers=layers,
            serving=cast(Serving, None),
            scorer=cast(Scorer, None),
            cache=self.cache,
            contents=cast(Contents, None),
        )

    def close(self) -> None:
        self.journal.close()

    def release(self, mark: str, code: str = HANDLER_CODE, model: str = "") -> Release:
        """Record a release whose every layer carries `mark`; or that runs other `code`."""
        made = Release(
            SYSTEM,
            {
                "model": (self.models.add("marker", lambda to: save_marker(to, model or mark)),),
                "config": (self.config.add("settings", lambda to: _settings(to, mark)),),
                "prompt": (self.prompts.add("greeting", mark),),
                "infra": (self.infra.add("serving", lambda to: _handler(to, mark, code)),),
            },
        )
        return self.record(made)

    def record(self, release: Release) -> Release:
        self.journal.add_release(release, Evidence("a test", self.journal.now()), None)
        return release

    @contextmanager
    def saga(self) -> Iterator[Lease]:
        """A saga without steps, to move the route by."""
        route = self.journal.route(SYSTEM)
        source, epoch = (route.release, route.epoch) if route else ("", 0)
        target = self.journal.releases(SYSTEM)[0][0].id
        plan = Plan(SYSTEM, Level.SYSTEM, source, target, epoch, (), ())
        _, lease = self.journal.open_saga(plan, by="a test", reason="a test")
        yield lease
        self.journal.close_saga(lease, SagaState.COMPLETED)

    def switch(self, release: Release, lease: Lease | None = None, proved: bool = True) -> int:
        """Move the route; the new epoch."""
        if lease is None:
            with self.saga() as own:
                return self.switch(release, own, proved)
        route = self.journal.route(SYSTEM)
        before = route.epoch if route else 0
        token = f"{release.short}:{lease.saga}:{before + 1}"
        epoch = self.journal.switch_route(lease, expected=before, to=release.id, token=token).epoch
        if proved:
            self.journal.mark_proved(lease, epoch)
        return epoch


def marks(prediction: Mapping[str, Any]) -> set[str]:
    """What the layers of one answer say."""
    return {str(prediction[layer]) for layer in ("model", "config", "prompt", "infra")}


MODEL_CODE = """
import mlflow


class Marker(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [{mark!r}] * len(model_input)


mlflow.models.set_model(Marker())
"""


def save_marker(folder: Path, mark: str) -> None:
    """An MLflow pyfunc model that answers its mark for each row."""
    save_model(folder, MODEL_CODE.format(mark=mark))


def save_model(folder: Path, code: str, **kept: Any) -> None:
    """An MLflow pyfunc model of code that calls `mlflow.models.set_model`."""
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory() as made:
        script = Path(made) / "model.py"
        script.write_text(code)
        mlflow.pyfunc.save_model(str(folder), python_model=str(script), pip_requirements=[], **kept)


def _settings(folder: Path, mark: str) -> None:
    (folder / "mark.json").write_text(json.dumps(mark))


def _handler(folder: Path, mark: str, code: str) -> None:
    (folder / "handler.py").write_text(code.format(mark=mark))


def main(folder: Path) -> None:
    """Serve the system below a folder until SIGTERM, as `ebbtide serve` does."""
    from ebbtide.adapters.system.file import read_system_file
    from ebbtide.entrypoints.gateway import serve

    path = folder / f"{SYSTEM}.yaml"
    path.write_text(
        f"system: {SYSTEM}\nroot: .\nlayers: {{}}\nserving: {{handler: {HANDLER}, log: {LOG}}}\n"
    )
    file = read_system_file(path)
    serve(file, Marked(folder).world, "127.0.0.1", 0, "in-a-process")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
