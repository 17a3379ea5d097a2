"""Level 3 with cached features: 2,000 files of 1 GB in all.

A live release whose pipeline is bad is rolled back to the pipeline before it, whose
features DVC has in its cache. The order is two sagas: first the last good release
serves, then the target, composed of the earlier pipeline's features, the model that
was trained on them, and all else as it was.

Against it, in a clone of the same repository with the same cache: `git checkout` and
`dvc checkout` in place (while which no reader has whole features), and the feature
stage run again. Growth: the same with a tenth of the files, and of the bytes.
"""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bulk.workspace import Bulk, bulk
from benchmarks.common import (
    Bar,
    Grid,
    Report,
    counted,
    finish,
    middle,
    options,
    spreads,
    tell,
)
from benchmarks.system import ended
from ebbtide.core.planner import Order
from ebbtide.core.saga import Level, Phase, Saga
from flows.order import carry_out

_ROWS, _ROW_FILES = 100_000, 10
_FILES, _BYTES = 2000, 512 * 1024
_SIZES = {"200 files, 0.1 GB": (200, _BYTES), "2,000 files, 1 GB": (_FILES, _BYTES)}
_QUICK = {"1,000 files, 20 MB": (1000, 20_000)}


@dataclass
class Found:
    """Seconds of each round."""

    whole: list[float] = field(default_factory=list)
    cut_over: list[float] = field(default_factory=list)
    """Of the longer of an order's two sagas."""
    in_place: list[float] = field(default_factory=list)
    recomputed: list[float] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    asked = options(__doc__, argv)
    report = measure(asked.quick, counted(asked, 1, 3))
    return finish(report, asked.json)


def measure(quick: bool, rounds: int) -> Report:
    found = {
        name: _measured(files, size, rounds)
        for name, (files, size) in (_QUICK if quick else _SIZES).items()
    }
    report = Report("features", __doc__ or "", quick)
    report.grids = [_table(name, each) for name, each in found.items()]
    largest = list(found.values())[-1]
    whole = middle(largest.whole)
    report.bars = [
        Bar("cut-over", max(largest.cut_over), 1.0, "s"),
        Bar("whole order", max(largest.whole), 5.0, "s"),
        Bar(
            "whole order against git and dvc checkout",
            whole / middle(largest.in_place),
            1.0,
            "times",
        ),
        Bar("whole order against recomputing", whole / middle(largest.recomputed), 1.0, "times"),
    ]
    report.figures = {name: vars(each) for name, each in found.items()}
    return report


def _measured(files: int, size: int, rounds: int) -> Found:
    found = Found()
    with bulk(_ROWS, _ROW_FILES, files, size) as made:
        clone = _clone(made)
        for n in range(rounds + 1):
            tell(f"round {n} of {rounds}")
            took = _roll_back(made)
            if n:  # the first also pays for imports, and for what is recorded from then on
                found.whole.append(took[0])
                found.cut_over.append(took[1])
                found.in_place.append(_in_place(made, clone))
                found.recomputed.append(_recomputed(made, clone))
            made.lift_quarantine()
            ended(carry_out(made.world, Order(Level.PROMOTION, by="b", to=made.releases["bad"].id)))
    return found


def _roll_back(made: Bulk) -> tuple[float, float]:
    began, opened = time.perf_counter(), time.time()
    order = Order(Level.FEATURES, by="b", features={"groups": made.commits["good"]})
    ended(carry_out(made.world, order))
    whole = time.perf_counter() - began
    sagas = [saga for saga in made.world.journal.sagas("bulk", 2) if saga.opened_at >= opened - 1]
    return whole, max(_cut_over(made, saga) for saga in sagas)


def _cut_over(made: Bulk, saga: Saga) -> float:
    """From the first intent of the cut-over to its last proof."""
    steps = [step for step in made.world.journal.steps(saga.id) if step.phase is Phase.CUT_OVER]
    return max(step.proved_at or float("nan") for step in steps) - steps[0].intent_at


def _clone(made: Bulk) -> Path:
    clone = made.folder.with_name("clone")
    made.run("git", "clone", "--quiet", str(made.folder), str(clone))
    cache = str(made.folder / ".dvc/cache")
    made.run(sys.executable, "-m", "dvc", "cache", "dir", "--local", cache, cwd=clone)
    return clone


def _in_place(made: Bulk, clone: Path) -> float:
    """What a person types: from the bad commit to the good one."""
    made.run("git", "checkout", "--quiet", made.commits["bad"], cwd=clone)
    made.run(sys.executable, "-m", "dvc", "checkout", "--quiet", "--force", cwd=clone)
    began = time.perf_counter()
    made.run("git", "checkout", "--quiet", made.commits["good"], cwd=clone)
    made.run(sys.executable, "-m", "dvc", "checkout", "--quiet", "--force", cwd=clone)
    return time.perf_counter() - began


def _recomputed(made: Bulk, clone: Path) -> float:
    """The stage alone, run again where the good commit is checked out; nothing is cached."""
    shutil.rmtree(clone / "data/features", ignore_errors=True)
    (clone / "data").mkdir(exist_ok=True)
    began = time.perf_counter()
    made.run(
        sys.executable,
        "make_features.py",
        cwd=clone,
        env={"BULK_TABLES": str(made.folder / "tables")},
    )
    return time.perf_counter() - began


def _table(name: str, found: Found) -> Grid:
    return spreads(
        name,
        (
            ("level 3: its longest cut-over", found.cut_over),
            ("level 3: whole order, both sagas", found.whole),
            ("git checkout, dvc checkout in place", found.in_place),
            ("the feature stage run again", found.recomputed),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
