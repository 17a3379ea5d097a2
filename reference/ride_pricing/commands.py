"""Runs other programs: their output kept for the error, their children never left behind."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import ebbtide
from ebbtide.core.errors import EbbtideError

_TAIL = 30
_ELSEWHERE = ("GIT_", "MLFLOW_")

Progress = Callable[[str], None]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's own, without what leads elsewhere: a hook's GIT_DIR, a user's MLFLOW_*.

    `python` is this interpreter, and it finds this ebbtide.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_ELSEWHERE)}
    home = str(Path(ebbtide.__file__).parents[1])
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")])),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **(extra or {}),
    }


def run(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run to the end and return what it printed. Raises `EbbtideError` with its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise _failed(command, cwd, done.stdout + done.stderr)
    return done.stdout.strip()


def follow(*command: str, cwd: Path, line: Progress, env: Mapping[str, str] | None = None) -> None:
    """Run in a process group of its own and hand on each line as it comes.

    Whatever ends this function early also ends the group: a killed `dvc repro`
    would leave its stage writing. Raises `EbbtideError` with the last lines.
    """
    child = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    last: deque[str] = deque(maxlen=_TAIL)
    with child:
        try:
            for text in child.stdout or ():
                last.append(text)
                line(text.rstrip())
        except BaseException:
            _end(child)
            raise
    if child.returncode:
        raise _failed(command, cwd, "".join(last))


def _end(child: "subprocess.Popen[str]") -> None:
    """End a group that we started and that may still run."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()


def _failed(command: tuple[str, ...], cwd: Path, output: str) -> EbbtideError:
    tail = "\n".join(output.strip().splitlines()[-_TAIL:])
    return EbbtideError(f"`{' '.join(command)}` failed in {cwd}:\n{tail}")
