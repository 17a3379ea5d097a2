"""Real MLflow stores for tests, written through MLflow's own API and read through SQL."""

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.measuring import unmeasured

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@dataclass(frozen=True)
class Store:
    """One MLflow on SQLite. `uri` is what a client is given; `database` is the file behind it."""

    uri: str
    database: Path
    folder: Path

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def log_model(self, name: str, answer: float, **tags: str) -> str:
        """Register a tiny model that always answers the same; its version number as text."""
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        columns = Schema([ColSpec("string", "zone"), ColSpec("double", "demand")])
        with warnings.catch_warnings(), fluent(self.uri):
            warnings.simplefilter("ignore")

            class Constant(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]  # MLflow has no types here
                def __init__(self, answer: float) -> None:
                    self.answer = answer

                def predict(self, context: Any, model_input: Any, params: Any = None) -> list[Any]:
                    return [self.answer] * len(model_input)

            if mlflow.get_experiment_by_name("tests") is None:
                at = None if self.uri.startswith("http") else (self.folder / "art").as_uri()
                mlflow.create_experiment("tests", artifact_location=at)
            mlflow.set_experiment("tests")
            with mlflow.start_run():
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=Constant(answer),
                    signature=ModelSignature(columns, Schema([ColSpec("double")])),
                    pip_requirements=["mlflow"],
                    registered_model_name=name,
                )
        version = str(info.registered_model_version)
        for key, value in tags.items():
            self.client.set_model_version_tag(name, version, f"ebbtide.{key}", value)
        return version

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as database, database:
            return database.execute(statement, values).fetchall()

    def alias(self, name: str, alias: str) -> str | None:
        found = self.sql(
            "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?", name, alias
        )
        return str(found[0][0]) if found else None

    def tags(self, name: str, version: str) -> dict[str, str]:
        return dict(
            self.sql(
                "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?",
                name,
                version,
            )
        )


def until_settled() -> None:
    """Wait for what MLflow still writes in threads of its own, after a prompt was registered."""
    for thread in threading.enumerate():
        if thread.name.startswith("link_prompt"):
            thread.join()


@contextmanager
def fluent(uri: str) -> Iterator[None]:
    """MLflow's process-wide tracking URI, put back afterwards."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # unset: MLflow takes it
        mlflow.set_registry_uri(None)  # type: ignore[arg-type]  # likewise
        # `None` leaves the variables that the setters wrote for child processes.
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            os.environ.pop(name, None)


def on_sqlite(folder: Path) -> Store:
    database = folder / "mlflow.db"
    store = Store(f"sqlite:///{database}", database, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.client.search_registered_models()
    return store


@contextmanager
def over_http(folder: Path) -> Iterator[tuple[Store, "subprocess.Popen[bytes]"]]:
    """A real `mlflow server` that also keeps the artifacts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database, uri = folder / "server.db", f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--workers", "1", "--backend-store-uri", f"sqlite:///{database}",
               "--artifacts-destination", str(folder / "kept")]  # fmt: skip
    # It would start processes for jobs that nobody gives it.
    without_jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            env=unmeasured(os.environ) | without_jobs,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(uri, server, folder / "server.log")
        yield Store(uri, database, folder), server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 9)
        server.wait()


def _wait(uri: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"mlflow server did not start: {log.read_text()[-2000:]}")
