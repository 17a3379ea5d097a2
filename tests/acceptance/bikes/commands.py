"""Runs programs as a user does: from the folder of the foreign system, and nothing else."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.acceptance.bikes.warm import started

_HOME = str(Path(__file__).parents[3])
_OTHERS = ("GIT_", "EBBTIDE_", "MLFLOW_", "PREFECT_")
"""Another system's settings must not lead a command astray."""
_LONGEST = 110.0


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All its words, without the line breaks of a terminal's width."""
        return " ".join(f"{self.out} {self.err}".split())


def run(*command: str, cwd: Path, expect: int | None = 0, unset: tuple[str, ...] = ()) -> Done:
    """Run to the end. `expect`: the exit code that it must have; None: any."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=_environment(unset),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        check=False,
    )
    return _as_expected(command, Done(ended.returncode, ended.stdout, ended.stderr), expect)


def python(*words: str, cwd: Path) -> Done:
    """The foreign system's own programs: nobody measures their coverage."""
    return run(sys.executable, *words, cwd=cwd, unset=("COVERAGE_",))


def ebbtide(*words: str, cwd: Path, expect: int | None = 0) -> Done:
    """`python -m ebbtide`, in a process of its own that starts quickly."""
    ended = started().run(words, cwd, _environment(), _LONGEST)
    return _as_expected(("ebbtide", *words), Done(ended.code, ended.out, ended.err), expect)


def asked(*words: str, cwd: Path, expect: int | None = 0) -> Any:
    """What a command of ebbtide says with `--json`."""
    return json.loads(ebbtide(*words, "--json", cwd=cwd, expect=expect).out)


def adopt(system: str, *options: str, cwd: Path) -> None:
    """`ebbtide init`, and then the one edit that a test is too short to go without.

    A release counts as proved good as soon as its saga is proved.
    """
    ebbtide("init", system, "--yes", *options, cwd=cwd)
    file = cwd / f"configs/systems/{system}.yaml"
    text, edited = re.subn(r"(?m)^#?proved_after:.*$", "proved_after: 0", file.read_text())
    assert edited == 1, text
    file.write_text(text)


@contextmanager
def serving(system: str, cwd: Path) -> Iterator[None]:
    """`ebbtide serve` on a free port, in a process of its own, which must end cleanly."""
    with (cwd / f"serve-{system}.log").open("w") as log:
        replica = subprocess.Popen(
            [sys.executable, "-m", "ebbtide", "serve", system, "--port", "0"],
            cwd=cwd,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    except Exception as fault:
        if replica.poll() is not None:
            raise AssertionError(f"{system} was no longer served: {replica.returncode}") from fault
        raise
    finally:
        _end(replica)
    assert replica.returncode == 0, (cwd / f"serve-{system}.log").read_text()[-2000:]


def url_of(system: str, cwd: Path) -> str:
    """Where the one replica of a system answers, as `ebbtide status` has it."""
    deadline = monotonic() + 60
    while not (replicas := asked("status", system, cwd=cwd)[0]["replicas"]):
        assert monotonic() < deadline, f"no replica of {system} has reported itself"
        sleep(0.2)
    (replica,) = replicas
    return str(replica["url"])


def _as_expected(command: Sequence[str], done: Done, expect: int | None) -> Done:
    assert expect in (None, done.code), f"{command} ended with {done.code}:\n{done.out}{done.err}"
    return done


def _end(replica: "subprocess.Popen[bytes]") -> None:
    if replica.poll() is None:
        replica.send_signal(signal.SIGTERM)
    try:
        replica.wait(20)
    except subprocess.TimeoutExpired:
        replica.kill()
        replica.wait()


def _environment(unset: tuple[str, ...] = ()) -> Mapping[str, str]:
    others = (*_OTHERS, *unset)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, [_HOME, kept.get("PYTHONPATH", "")])),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
