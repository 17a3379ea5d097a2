"""Level 4: a table of 10 million rows in 1,000 files goes back to an earlier version.

The old version is looked at by time travel, the last good release serves meanwhile, the
features of the old version are built or linked, the model of exactly that lineage is
found in the registry, then the table is restored and all of it is proved. Once more
with a pipeline that no model was trained with, so that features are computed and a
model is trained: how long does the bad release go on serving?

Against the restore, on the same table: the bare restore of delta-rs. Against the time
that the bad release serves while a model is trained: the same time in a rollback of
level 1, in the same system and the same round, of a release that differs in its model
alone. Both count from the order, planning included, to the end of the bad release's
tenure, which is the switch of the route. Growth: a tenth of the rows and files.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.bulk.workspace import SYSTEM, Bulk, bulk
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
from ebbtide.core.release import Release
from ebbtide.core.saga import Level
from flows.order import carry_out

_SIZES = {
    "1 million rows, 100 files": (1_000_000, 100),
    "10 million rows, 1,000 files": (10_000_000, 1000),
}
_QUICK = {"1 million rows, 100 files": (1_000_000, 100)}
_FILES, _BYTES = 20, 20_000


@dataclass
class Found:
    """Seconds of each round."""

    whole: list[float] = field(default_factory=list)
    restore: list[float] = field(default_factory=list)
    """From the restoring step's intent to its end: fenced, restored, properties, synced."""
    bare: list[float] = field(default_factory=list)
    trained: list[float] = field(default_factory=list)
    """A whole order in which a model was trained."""
    bad_served: list[float] = field(default_factory=list)
    """In such an order: from the order until the bad release did not serve any more."""
    model_served: list[float] = field(default_factory=list)
    """The same of a bad model, in a rollback of level `model`."""
    model_whole: list[float] = field(default_factory=list)
    """Such an order, to its end."""
    shallow_served: list[float] = field(default_factory=list)
    """The same of a bad release, in a rollback of level `system`."""


def main(argv: Sequence[str] | None = None) -> int:
    asked = options(__doc__, argv)
    report = measure(asked.quick, counted(asked, 1, 3))
    return finish(report, asked.json)


def measure(quick: bool, rounds: int) -> Report:
    found = {
        name: _measured(rows, files, rounds)
        for name, (rows, files) in (_QUICK if quick else _SIZES).items()
    }
    report = Report("data", __doc__ or "", quick)
    report.grids = [_table(name, each) for name, each in found.items()]
    largest = list(found.values())[-1]
    report.bars = [
        Bar("whole order, model found", max(largest.whole), 15.0, "s"),
        Bar(
            "the restoring step against bare delta-rs",
            middle(largest.restore) / middle(largest.bare),
            2.0,
            "times",
        ),
        Bar(
            "bad release serves: level 4 with training against level 1",
            middle(largest.bad_served) / middle(largest.model_served),
            1.5,
            "times",
        ),
    ]
    report.figures = {name: vars(each) for name, each in found.items()}
    return report


def _measured(rows: int, files: int, rounds: int) -> Found:
    found = Found()
    with bulk(rows, files, _FILES, _BYTES, poisoned=True) as made:
        _release_tuned(made)
        for n in range(rounds + 1):
            tell(f"round {n} of {rounds}")
            one = Found() if n == 0 else found  # the first also pays for imports
            _found_model(made, one)
            one.bare.append(_bare(made))
            _trained_model(made, n, one)
            _model_alone(made, one)
            _shallow(made, one)
    return found


def _found_model(made: Bulk, found: Found) -> None:
    version = made.releases["good"].pins("data")[0].at["version"]
    began = time.perf_counter()
    order = Order(Level.DATA, by="b", to=made.releases["good"].id)
    saga = ended(carry_out(made.world, order))
    found.whole.append(time.perf_counter() - began)
    live = made.world.journal.release(saga.target)
    if live.pins("data")[0].at["version"] != version:
        raise RuntimeError("the table's version is not the good release's")
    steps = {step.name: step for step in made.world.journal.steps(saga.id)}
    restore = steps["data.restore_tables"]
    found.restore.append((restore.done_at or float("nan")) - restore.intent_at)
    _back_to_bad(made)


def _trained_model(made: Bulk, n: int, found: Found) -> None:
    """A pipeline of its own each time: nothing of it is kept, and no model was trained with it."""
    version = made.releases["good"].pins("data")[0].at["version"]
    made.commit(
        f"other {n}",
        config="hi",
        tables={"events": int(made.table().version())},
        features={"files": _FILES, "bytes": _BYTES, "seed": 100 + n, "scale": 1.0 + n / 1000},
    )
    bad = made.release(f"other {n}")
    registered = made.models()
    began, at = time.perf_counter(), time.time()
    order = Order(
        Level.DATA,
        by="b",
        tables={"events": version},
        safe=made.releases["good"].id,
        accept_unproved=True,
    )
    ended(carry_out(made.world, order))
    found.trained.append(time.perf_counter() - began)
    if made.models() != registered + 1:
        raise RuntimeError("no model was trained, or several")
    found.bad_served.append(_served_on(made, bad, at))
    _back_to_bad(made)


def _model_alone(made: Bulk, found: Found) -> None:
    tuned, bad = made.releases["tuned"], made.releases["bad"]
    ended(carry_out(made.world, Order(Level.PROMOTION, by="b", to=tuned.id)))
    began, at = time.perf_counter(), time.time()
    saga = ended(carry_out(made.world, Order(Level.MODEL, by="b", to=bad.id)))
    found.model_whole.append(time.perf_counter() - began)
    found.model_served.append(_served_on(made, tuned, at))
    if saga.target != bad.id:
        raise RuntimeError("the releases differ in more than the model")
    made.lift_quarantine()


def _shallow(made: Bulk, found: Found) -> None:
    at = time.time()
    ended(carry_out(made.world, Order(Level.SYSTEM, by="b", to=made.releases["good"].id)))
    found.shallow_served.append(_served_on(made, made.releases["bad"], at))
    _back_to_bad(made)


def _served_on(made: Bulk, release: Release, at: float) -> float:
    """Seconds for which a release went on serving after that moment."""
    tenures = made.world.journal.tenures(SYSTEM)
    tenure = next(each for each in tenures if each.release == release.id)
    return (tenure.until or float("nan")) - at


def _release_tuned(made: Bulk) -> None:
    """A release that differs from `bad` by another model on the same features; `bad` is live."""
    said = made.folder / "data/trained.json"
    aside = said.rename(said.with_suffix(".kept"))  # it may share its bytes with DVC's cache
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{made.folder / 'mlflow.db'}"}
    made.run(sys.executable, "train_model.py", env=uri)
    aside.replace(said)
    made.release("tuned")
    ended(carry_out(made.world, Order(Level.PROMOTION, by="b", to=made.releases["bad"].id)))


def _bare(made: Bulk) -> float:
    """The same restore with nothing around it, and back."""
    versions = [made.releases[name].pins("data")[0].at["version"] for name in ("good", "bad")]
    began = time.perf_counter()
    made.table().restore(int(versions[0]))
    took = time.perf_counter() - began
    made.table().restore(int(versions[1]))
    return took


def _back_to_bad(made: Bulk) -> None:
    """So that the next round begins as this one did, the table included."""
    made.lift_quarantine()
    bad = made.releases["bad"]
    made.table().restore(int(bad.pins("data")[0].at["version"]))
    ended(carry_out(made.world, Order(Level.PROMOTION, by="b", to=bad.id)))


def _table(name: str, found: Found) -> Grid:
    return spreads(
        name,
        (
            ("level 4: whole order, model found by lineage", found.whole),
            ("level 4: the restoring step", found.restore),
            ("delta-rs: the bare restore", found.bare),
            ("level 4: whole order, model trained", found.trained),
            ("level 4: ... the bad release served on for", found.bad_served),
            ("level 1: the bad model served on for", found.model_served),
            ("level 1: whole order", found.model_whole),
            ("level 2: the bad release served on for", found.shallow_served),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
