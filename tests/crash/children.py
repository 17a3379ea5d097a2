"""Processes of ebbtide that a test kills or stops: forked from one that has everything loaded.

Each is the command line itself, so that it ends with the exit code that a user
sees. A new interpreter for each would spend seconds on imports.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.measuring import others_unmeasured

PATIENCE = 300.0
"""Seconds until a process must have ended, also one that trains a model on a busy machine."""
_LOADED = [
    "alembic.command",
    "dvc.repo",
    "ebbtide.bootstrap",
    "ebbtide.adapters.cache",
    "ebbtide.adapters.delta.leased",
    "ebbtide.adapters.delta.outputs",
    "ebbtide.adapters.dvc.features",
    "ebbtide.adapters.expectations.examining",
    "ebbtide.adapters.git.gitops",
    "ebbtide.adapters.git.settings",
    "ebbtide.adapters.journal.store",
    "ebbtide.adapters.loading.aside",
    "ebbtide.adapters.loading.release",
    "ebbtide.adapters.mlflow.anew",
    "ebbtide.adapters.mlflow.models",
    "ebbtide.adapters.mlflow.prompts",
    "ebbtide.adapters.receivers.http",
    "ebbtide.adapters.replicas.serving",
    "ebbtide.entrypoints.cli.main",
    "ebbtide.entrypoints.cli.shown",
    "ebbtide.layers",
    "deltalake.fs",
    "diskcache",
    "flows.refreshing",
    "flows.shell",
    "flows.unfinished",
    "great_expectations",
    "mlflow",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "orjson",
    "psycopg",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "scipy.stats",
    "sqlalchemy.dialects.sqlite",
    "tests.crash.children",
]


@dataclass(frozen=True)
class Ended:
    """How a process ended. `code` is negative where a signal ended it."""

    code: int
    out: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass(frozen=True)
class Child:
    """A process that runs."""

    process: ForkServerProcess
    out: Path

    def ended(self) -> Ended:
        """Wait for its end."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        if code is None:
            self.gone()
            raise AssertionError(f"it never ended: {self.out.read_text()}")
        return Ended(code, self.out.read_text())

    def stopped(self) -> None:
        """Wait until it has stopped itself."""
        deadline = monotonic() + PATIENCE
        while self._state() != "T":
            assert monotonic() < deadline and self.process.is_alive(), self.out.read_text()
            sleep(0.01)

    def gone(self) -> None:
        """End it, however it stands: a stopped one would keep others waiting."""
        self.process.kill()
        self.process.join()

    def go_on(self) -> None:
        """Let it wake."""
        os.kill(self._pid, signal.SIGCONT)

    @property
    def _pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    def _state(self) -> str:
        try:
            return Path(f"/proc/{self._pid}/stat").read_text().rpartition(") ")[2][:1]
        except FileNotFoundError:
            return ""


def start(
    words: tuple[str, ...],
    out: Path,
    environment: Mapping[str, str],
    before: Callable[[], object] | None = None,
) -> Child:
    """`ebbtide WORDS` in a process of its own, which calls `before` first."""
    return forked(_ebbtide, words, out, environment, before)


def forked(function: Callable[..., object], *given: Any) -> Child:
    """Call a function in such a process; its second argument is where its output goes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    process = context.Process(target=function, args=given, daemon=True)
    with others_unmeasured():
        process.start()
    return Child(process, given[1])


def into(out: Path) -> None:
    """Let what this process says go into a file."""
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)


def _ebbtide(
    words: tuple[str, ...],
    out: Path,
    environment: Mapping[str, str],
    before: Callable[[], object] | None,
) -> None:
    into(out)
    os.environ.update(environment)
    sys.argv = ["ebbtide", *words]
    from ebbtide.entrypoints.cli.main import main

    if before is not None:
        before()
    main()
