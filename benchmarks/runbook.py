"""The manual runbook: what a person types to put a whole release back without ebbtide.

Every command is a process of its own, as in a shell: the tables restored, the
aliases moved, the release's commit checked out with git and DVC in the clone
that serving reads, the cache flushed, and MLflow's scoring server started anew
until it answers. Nobody looks anything up or hesitates: a person is slower.
"""

import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.system import Production, program, until
from ebbtide.core.release import Release
from reference.ride_pricing.commands import environment, run
from reference.ride_pricing.workspace import MODEL, PROMPT

_ALIASES = """
from mlflow import MlflowClient
client = MlflowClient({uri!r}, {uri!r})
client.set_registered_model_alias({model!r}, "champion", {number!r})
client.set_prompt_alias({prompt!r}, "production", {text})
"""
_RESTORE = "from deltalake import DeltaTable; DeltaTable({path!r}).restore({version})"
_FLUSH = "import diskcache; diskcache.Cache({path!r}).clear()"


@dataclass
class Runbook:
    """A clone to check out in, and how long each command took in the last run."""

    made: Production
    clone: Path
    took: dict[str, float] = field(default_factory=dict)

    def prepare(self) -> None:
        """Clone the workspace; DVC's cache is shared, as a team's is. Not part of the time."""
        run("git", "clone", "--quiet", str(self.made.folder), str(self.clone), cwd=Path("/"))
        cache = str(self.made.folder / ".dvc/cache")
        self._dvc("cache", "dir", "--local", cache)
        self._dvc("checkout", "--quiet")

    def roll_back(self, release: Release) -> float:
        """Seconds from the first key to a server that answers."""
        began = time.monotonic()
        self.took = {}
        for pin in release.pins("data"):
            if not pin.lineage:
                path = str(self.made.file.at(pin.at["path"]))
                self._python(
                    "restore tables", _RESTORE.format(path=path, version=pin.at["version"])
                )
        model, prompt = release.pins("model")[0], release.pins("prompt")[0]
        self._python(
            "move aliases",
            _ALIASES.format(
                uri=self.made.workspace.tracking_uri,
                model=MODEL,
                number=model.at["version"],
                prompt=PROMPT,
                text=prompt.at["version"],
            ),
        )
        self._timed(
            "git checkout", "git", "checkout", "--quiet", release.pins("features")[0].at["commit"]
        )
        self._timed("dvc checkout", sys.executable, "-m", "dvc", "checkout", "--quiet")
        self._python("flush cache", _FLUSH.format(path=str(self.clone / "cache")))
        self._restart()
        return time.monotonic() - began

    def _restart(self) -> None:
        """The old server's end is not counted: only until the new one answers."""
        started, port = time.monotonic(), free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve"]
        command += ["--model-uri", f"models:/{MODEL}@champion", "--env-manager", "local"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        uri = {"MLFLOW_TRACKING_URI": self.made.workspace.tracking_uri}
        log = self.clone / "server.log"
        with program(command, cwd=self.clone, log=log, env=uri) as server:
            until(lambda: answers(f"http://127.0.0.1:{port}/ping"), "MLflow's server", server)
            self.took["restart server"] = time.monotonic() - started

    def _dvc(self, *words: str) -> None:
        run(sys.executable, "-m", "dvc", *words, cwd=self.clone)

    def _python(self, name: str, code: str) -> None:
        self._timed(name, sys.executable, "-c", code)

    def _timed(self, name: str, *command: str) -> None:
        started = time.monotonic()
        ended = subprocess.run(
            command, cwd=self.clone, env=environment(), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise RuntimeError(f"{name} failed: {ended.stdout}{ended.stderr}")
        self.took[name] = time.monotonic() - started


def answers(url: str) -> bool:
    """Whether a server says that it is well."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
