"""What every benchmark shares: percentiles, bars, tables, and the report that holds them."""

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from math import ceil, isfinite
from pathlib import Path
from statistics import median
from typing import Any

_BEGAN = time.monotonic()
_WIDE = 120
"""Columns where no terminal says how many it has."""
_VERSIONS = ("mlflow", "dvc", "deltalake", "prefect", "scikit-learn", "uvicorn")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of a report, its cells as people read them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        lines = [self.columns, ("---", *["---:"] * (len(self.columns) - 1)), *self.rows]
        drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{self.title}**\n\n{drawn}\n"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach."""

    name: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False
    """False: the value must stay at or below the limit."""

    @property
    def met(self) -> bool:
        """A figure that is not there meets nothing."""
        if not isfinite(self.value):
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Report:
    """What one program found."""

    program: str
    measured: str
    """What is measured and how: the program's docstring."""
    quick: bool
    grids: list[Grid] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """Every raw figure, for machines."""
    plot: str = ""
    """File name of a picture in `plots/`."""

    @property
    def verdicts(self) -> Grid:
        rows = tuple(
            (
                bar.name,
                f"{'>=' if bar.at_least else '<='} {_figure(bar.limit)} {bar.unit}".strip(),
                f"{_figure(bar.value)} {bar.unit}".strip(),
                "met" if bar.met else "MISSED",
            )
            for bar in self.bars
        )
        return Grid("Bars", ("bar", "limit", "found", "verdict"), rows)

    def to_json(self) -> dict[str, Any]:
        return {
            "program": self.program,
            "measured": self.measured,
            "quick": self.quick,
            "machine": machine(),
            "grids": [asdict(grid) for grid in self.grids],
            "bars": [{**asdict(bar), "met": bar.met} for bar in self.bars],
            "figures": self.figures,
            "plot": self.plot,
        }

    def show(self) -> None:
        """Print the tables and the bars."""
        from rich.console import Console
        from rich.table import Table

        say = Console()
        say = say if say.is_terminal else Console(width=_WIDE)
        for grid in [*self.grids, *([self.verdicts] if self.bars else [])]:
            drawn = Table(title=grid.title, title_justify="left")
            for n, column in enumerate(grid.columns):
                drawn.add_column(column, justify="right" if n else "left")
            for row in grid.rows:
                drawn.add_row(*row)
            say.print(drawn)

    def markdown(self) -> str:
        parts = [f"## {self.program}", self.measured.strip()]
        if self.quick:
            parts.append("*A quick run: few samples, no verdict to rely on.*")
        parts += [grid.markdown() for grid in self.grids]
        parts += [self.verdicts.markdown()] if self.bars else []
        parts += [f"![{self.program}](plots/{self.plot})"] if self.plot else []
        return "\n\n".join(part.rstrip() for part in parts) + "\n"


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, `share` from 0 to 1; NaN of nothing.

    The smallest value that at least this share of all values does not exceed: a
    value that was measured, never one between two, so small samples are not flattered.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share is between 0 and 1, not {share}")
    if not values:
        return float("nan")
    ranked = sorted(values)
    # Rounded first: 0.07 * 100 is a little more than 7 in binary.
    return ranked[max(1, ceil(round(share * len(ranked), 9))) - 1]


def spread(seconds: Sequence[float]) -> tuple[str, ...]:
    """Count, median, p99 and the largest, as cells; milliseconds."""
    if not seconds:
        return ("0", "-", "-", "-")
    found = (median(seconds), percentile(seconds, 0.99), max(seconds))
    return (str(len(seconds)), *(ms(each) for each in found))


SPREAD = ("n", "median ms", "p99 ms", "max ms")


def spreads(title: str, samples: Iterable[tuple[str, Sequence[float]]]) -> Grid:
    """Samples in seconds, by what they are of: the spread of each on a row of its own."""
    return Grid(title, ("", *SPREAD), tuple((what, *spread(each)) for what, each in samples))


def ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}" if seconds < 1 else f"{seconds * 1000:,.0f}"


def middle(values: Sequence[float]) -> float:
    """The median; NaN of nothing, which meets no bar."""
    return median(values) if values else float("nan")


def ratio(one: float, other: float) -> float:
    """NaN where there is nothing to compare with."""
    return one / other if other else float("nan")


def machine() -> Mapping[str, str]:
    """What it ran on. No name and no path of the machine."""
    return {
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in _VERSIONS},
    }


def options(document: str | None, argv: Sequence[str] | None = None, **flags: str) -> Any:
    """The arguments that every program takes; `flags` are switches of its own with their help.

    From here on SIGTERM ends the program in order: what it started is ended too.
    """
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few samples: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    for name, about in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=about)
    asked = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return asked


def tell(line: str) -> None:
    """Say what is going on, with the seconds since the program began."""
    from rich.console import Console

    Console(stderr=True).print(f"{time.monotonic() - _BEGAN:5.0f} s  {line}", highlight=False)


def finish(report: Report, to: Path | None) -> int:
    """Print the report, and write it where asked; 0 where every bar is met or it was quick."""
    report.show()
    if to is not None:
        to.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    return 0 if report.quick or all(bar.met for bar in report.bars) else 1


def counted(asked: Any, quick: int, full: int) -> int:
    return quick if asked.quick else full


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value or 0) else f"{value:,.2f}"
