"""Cold: typed into a fresh shell, with nothing warm but the gateway.

`ebbtide rollback SYSTEM --yes` from the start of its process until the route
names the target, seen by a raw SQLite reader that looks every two milliseconds,
and until the process has ended. `ebbtide status` and `ebbtide --help` whole.
The rollbacks go back and forth between two releases that differ in every layer.

Against it: the model's alias alone, moved by MLflow's own client in a fresh
process, from its start until MLflow's database has it.
"""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.common import (
    Bar,
    Report,
    counted,
    finish,
    middle,
    options,
    spreads,
    tell,
)
from benchmarks.system import Production, gateway, production
from reference.ride_pricing.commands import environment
from reference.ride_pricing.workspace import MODEL, SYSTEM

_LOOK_EVERY = 0.002
_WITHIN = 60.0
_ALIAS = """
from mlflow import MlflowClient
MlflowClient({uri!r}, {uri!r}).set_registered_model_alias({model!r}, "champion", {number!r})
"""


def main(argv: Sequence[str] | None = None) -> int:
    asked = options(__doc__, argv)
    return finish(measure(asked.quick, counted(asked, 3, 15)), asked.json)


def measure(quick: bool, rounds: int) -> Report:
    with production() as made, gateway(made):
        for name in ("v1", "v2"):
            made.promote(name)
        _whole(made, "status", SYSTEM)
        tell(f"cold rollbacks, {rounds} times")
        back = [_rollback(made) for _ in range(rounds)]
        tell("status, --help, and the alias alone")
        status = [_whole(made, "status", SYSTEM) for _ in range(rounds)]
        about = [_whole(made, "--help") for _ in range(rounds)]
        alias = [_alias(made, n) for n in range(rounds)]
    switched, whole = [one for one, _ in back], [all_ for _, all_ in back]
    rows = (
        ("ebbtide rollback SYSTEM --yes: route switched", switched),
        ("ebbtide rollback SYSTEM --yes: process ended", whole),
        ("MLflow's client: the model's alias alone", alias),
        ("ebbtide status", status),
        ("ebbtide --help", about),
    )
    report = Report("cold", __doc__ or "", quick)
    report.grids = [spreads("From the start of the process", rows)]
    report.bars = [
        Bar("rollback typed cold: route switched (median)", middle(switched), 1.5, "s"),
        Bar("ebbtide status (median)", middle(status), 0.5, "s"),
        Bar("ebbtide --help (median)", middle(about), 0.5, "s"),
    ]
    report.figures = {
        "switched": switched,
        "whole": whole,
        "status": status,
        "help": about,
        "alias": alias,
    }
    return report


def _rollback(made: Production) -> tuple[float, float]:
    """Seconds until the route was switched, and until the process had ended."""
    source = made.live()
    target = next(made.releases[name].id for name in ("v1", "v2") if _id(made, name) != source)
    with closing(sqlite3.connect(f"file:{made.journal}?mode=ro", uri=True)) as journal:

        def there() -> bool:
            return bool(journal.execute("SELECT release FROM routes").fetchone() == (target,))

        found = _timed(made, _ebbtide("rollback", SYSTEM, "--yes"), there)
    made.lift_quarantine()
    return found


def _alias(made: Production, n: int) -> float:
    number = made.versions[("v1", "v2")[n % 2]].model
    query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'"
    database = made.folder / "mlflow.db"
    code = _ALIAS.format(uri=made.workspace.tracking_uri, model=MODEL, number=number)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as registry:
        held = registry.execute(query, (MODEL,)).fetchone()
        if held is not None and str(held[0]) == number:
            number = made.versions[("v2", "v1")[n % 2]].model
            code = _ALIAS.format(uri=made.workspace.tracking_uri, model=MODEL, number=number)

        def there() -> bool:
            found = registry.execute(query, (MODEL,)).fetchone()
            return found is not None and str(found[0]) == number

        return _timed(made, [sys.executable, "-c", code], there)[0]


def _whole(made: Production, *words: str) -> float:
    return _timed(made, _ebbtide(*words), lambda: True)[1]


def _timed(made: Production, command: list[str], there: Callable[[], bool]) -> tuple[float, float]:
    """Seconds until something was there to see, and until the process had ended well."""
    seen = None
    out = made.folder / "cold.log"
    env = environment({"EBBTIDE_SYSTEMS": str(made.systems), "COLUMNS": "100"})
    # An installed ebbtide has its bytecode, which a checkout gets at its first start.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with out.open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=made.folder, env=env, stdout=log, stderr=log)
        while seen is None:
            # Asked before the look: what the process did last is still seen.
            over = process.poll() is not None
            seen = time.monotonic() - began if there() else None
            if seen is None and (over or time.monotonic() - began > _WITHIN):
                break
            time.sleep(_LOOK_EVERY)
        process.wait(_WITHIN)
        whole = time.monotonic() - began
    if process.returncode or seen is None:
        raise RuntimeError(f"{command[1:4]} ended with {process.returncode}: {_said(out)}")
    return seen, whole


def _ebbtide(*words: str) -> list[str]:
    return [sys.executable, "-m", "ebbtide", *words]


def _id(made: Production, name: str) -> str:
    return made.releases[name].id


def _said(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


if __name__ == "__main__":
    sys.exit(main())
