"""Runs every benchmark, each in a process of its own, and writes RESULTS.md.

A quick run shows its tables and writes nothing: too few samples to keep.
Ends with 1 where a bar is missed.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import Bar, Grid, Report

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "rollback": ("--prefect",),
    "cold": (),
    "gateway": (),
    "growth": (),
    "availability": (),
    "features": (),
    "data": (),
    "invalidate": (),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples; RESULTS.md stays")
    asked = parser.parse_args(argv)
    found, codes = [], []
    with TemporaryDirectory(prefix="ebbtide-benchmarks-") as folder:
        for name, more in PROGRAMS.items():
            to = Path(folder) / f"{name}.json"
            quick = ("--quick",) if asked.quick else more
            command = [sys.executable, "-m", f"benchmarks.{name}", *quick, "--json", str(to)]
            codes.append(subprocess.run(command, cwd=HERE.parent, check=False).returncode)
            if to.exists():
                found.append(json.loads(to.read_text()))
    if len(found) == len(PROGRAMS) and not asked.quick:
        RESULTS.write_text(results(found))
    return max(codes)


def results(found: Sequence[Mapping[str, Any]]) -> str:
    """The page of all reports, from what the programs wrote with `--json`."""
    bars = [bar for each in found for bar in each["bars"]]
    met = sum(bar["met"] for bar in bars)
    ran_on = "\n".join(f"- {name}: {value}" for name, value in found[0]["machine"].items())
    head = (
        "# Results\n\nWritten by `make bench`. Each program measures both sides in one run and "
        f"says in its first lines how.\n\nBars met: {met} of {len(bars)}.\n\n{ran_on}\n"
    )
    return "\n".join([head, *(_report(each).markdown() for each in found)])


def _report(found: Mapping[str, Any]) -> Report:
    named = {each.name for each in fields(Bar)}
    return Report(
        found["program"],
        found["measured"],
        found["quick"],
        [Grid(each["title"], each["columns"], each["rows"]) for each in found["grids"]],
        [Bar(**{key: bar[key] for key in named}) for bar in found["bars"]],
        plot=found["plot"],
    )


if __name__ == "__main__":
    sys.exit(main())
