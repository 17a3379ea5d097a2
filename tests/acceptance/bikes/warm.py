"""Runs commands in processes that are forked from one that has imported what all of them need.

Each is `python -m ebbtide` in a process, folder and environment of its own, that ends by
itself; only its start is quick. How a cold start goes is tested elsewhere.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Timer
from typing import Any

_HEAVY = (
    "alembic.command",
    "deltalake",
    "ebbtide.adapters.journal.store",
    "ebbtide.entrypoints.cli",
    "flows.order",
    "flows.shell",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandas",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Warm:
    """The process that forks. It ends when the one that started it does."""

    process: "subprocess.Popen[str]"

    def run(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], longest: float
    ) -> Ended:
        """Run `ebbtide <words>` to its end, or for so many seconds at most."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            code = self._ask(
                {
                    "words": ["ebbtide", *words],
                    "cwd": str(cwd),
                    "environment": dict(environment),
                    "out": str(out),
                    "err": str(err),
                },
                longest,
            )
            said = Ended(code, out.read_text(), err.read_text())
        assert said.code >= 0, f"`ebbtide {' '.join(words)}` died:\n{said.out}{said.err}"
        return said

    def _ask(self, order: Mapping[str, object], longest: float) -> int:
        """The exit code, or the negative number of the signal that ended it."""
        given, told = self.process.stdin, self.process.stdout
        assert given and told
        watch = Timer(longest, os.killpg, (self.process.pid, 9))
        watch.start()
        try:
            given.write(json.dumps(order) + "\n")
            given.flush()
            answer = told.readline()
        finally:
            watch.cancel()
        assert answer, f"no end within {longest:g} s: {order['words']}"
        return int(answer)


@cache
def started() -> Warm:
    """One for each process of the tests."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return Warm(process)


def stop() -> None:
    """End it, if there is one."""
    if started.cache_info().currsize:
        with started().process:
            started().process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        started.cache_clear()


def _serve() -> None:
    """Fork for each line; a child leaves the loop, and ends as any program does."""
    for module in _HEAVY:
        __import__(module)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            _become(order)
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(order: Mapping[str, Any]) -> None:
    for number, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        opened = os.open(str(path), os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(str(order["cwd"]))
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = list(order["words"])
    runpy.run_module("ebbtide", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve()
