"""Growth: a plan and a level 2 rollback, where there is much of everything.

Three axes, each alone: other recorded releases (1 to 1,000), tables that the
rollback restores (1 to 50, real Delta tables), and sagas that the journal holds
(up to 100,000 with their steps and tenures, written by SQL behind the journal's
back). The journal is SQLite on disk; all stores but the tables are the
in-memory ones of `ebbtide.testing`, so that what grows is ebbtide's own part.
The audit trail is left as it is: it is only appended to and read from its end.
"""

import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.common import Grid, Report, finish, ms, options, tell
from benchmarks.system import ended
from ebbtide.adapters.delta.tables import Tables
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Evidence, Release
from ebbtide.core.saga import Level
from ebbtide.testing import fake_world
from flows.order import carry_out, plan

PLOTS = Path(__file__).parent / "plots"
_BY = "benchmark"
_HISTORY = (
    """
    CREATE TEMP TABLE number AS
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :sagas)
    SELECT n FROM number
    """,
    """
    INSERT INTO sagas SELECT
        printf('%016x', n), system, level, source, target, n - :sagas - 1, state, plan, plan_digest,
        ordered_by, reason, '', opened_at - (:sagas - n) * 1000000,
        closed_at - (:sagas - n) * 1000000, why, remaining, holder, lease_epoch, lease_until,
        n - :sagas - 1
    FROM number, (SELECT * FROM sagas WHERE id = :like)
    """,
    """
    INSERT INTO steps SELECT
        printf('%016x', number.n), one.n, name, phase, remembered, intent_at, done_at, proved_at,
        verdict, why, measured, undo_intent_at, undone_at, undo_error
    FROM number CROSS JOIN (SELECT * FROM steps WHERE saga = :like) AS one
    """,
    """
    INSERT INTO tenures SELECT
        system, n - :sagas, CASE n % 2 WHEN 0 THEN :one ELSE :other END, printf('%016x', n),
        since - (:sagas - n) * 1000000, since - (:sagas - n - 1) * 1000000, 1
    FROM number, (SELECT * FROM tenures WHERE saga = :like)
    """,
)
"""Many sagas like a given one, each with all its steps and the tenure that it began."""


@dataclass(frozen=True)
class Pair:
    """A system that rolls back and forth between two releases."""

    world: World
    good: Release
    bad: Release
    journal: Path


@dataclass(frozen=True, slots=True)
class Point:
    """Medians at one size, in seconds."""

    size: int
    plan: float
    rollback: float


def main(argv: Sequence[str] | None = None) -> int:
    asked = options(__doc__, argv)
    return finish(measure(asked.quick), asked.json)


def measure(quick: bool) -> Report:
    rounds = 3 if quick else 15
    axes = {
        "other recorded releases": [
            _releases(count, rounds) for count in ([1, 100] if quick else [1, 10, 100, 1000])
        ],
        "tables restored": [
            _tables(count, rounds) for count in ([1, 10] if quick else [1, 5, 10, 25, 50])
        ],
        "sagas in the journal": [
            _sagas(count, rounds)
            for count in ([100, 10_000] if quick else [100, 1000, 10_000, 100_000])
        ],
    }
    report = Report("growth", __doc__ or "", quick)
    for name, points in axes.items():
        rows = tuple((f"{at.size:,}", ms(at.plan), ms(at.rollback)) for at in points)
        report.grids.append(Grid(name.capitalize(), (name, "plan ms", "rollback ms"), rows))
        report.figures[name] = [
            {"size": at.size, "plan": at.plan, "rollback": at.rollback} for at in points
        ]
    if not quick:
        report.plot = "growth.png"
        _draw(axes, PLOTS / report.plot)
    return report


def _releases(count: int, rounds: int) -> Point:
    tell(f"{count:,} other releases")
    with _pair() as pair:
        for n in range(count):
            release = resolve(
                pair.world, {layer: {"main": str(n + 10)} for layer in pair.world.layers}
            )
            evidence = Evidence(by=_BY, at=pair.world.journal.now())
            pair.world.journal.add_release(release, evidence, None)
        return _point(pair, count, rounds)


def _tables(count: int, rounds: int) -> Point:
    tell(f"{count:,} tables")
    with _pair(tables=count) as pair:
        return _point(pair, count, rounds)


def _sagas(count: int, rounds: int) -> Point:
    tell(f"{count:,} sagas")
    with _pair() as pair:
        _write_history(pair, count)
        return _point(pair, count, rounds)


@contextmanager
def _pair(tables: int = 0) -> Iterator[Pair]:
    with TemporaryDirectory(prefix="ebbtide-benchmark-") as folder:
        world: World = fake_world(Path(folder))
        ones, twos = ({layer: {"main": n} for layer in world.layers} for n in ("1", "2"))
        if tables:
            data = _delta(Path(folder), tables)
            world = replace(world, layers={**world.layers, "data": data})
            ones["data"], twos["data"] = (dict.fromkeys(data.names, n) for n in ("0", "1"))
        good, bad = resolve(world, ones), resolve(world, twos)
        for release in (good, bad):
            record(world, release, by=_BY)
            ended(carry_out(world, Order(Level.PROMOTION, by=_BY, to=release.id)))
        try:
            yield Pair(world, good, bad, Path(folder) / "journal.db")
        finally:
            world.journal.close()


def _delta(folder: Path, count: int) -> Tables:
    """Real tables with two versions each."""
    import pyarrow as pa
    from deltalake import write_deltalake

    names = [f"table_{n}" for n in range(count)]
    for name in names:
        for version in range(2):
            rows = pa.table({"zone": [str(n) for n in range(100)], "value": [version] * 100})
            write_deltalake(folder / name, rows, mode="overwrite")
    things = {name: DataThing(path=name, role="reference") for name in names}
    return Tables(things, lambda path: folder / path)


def _point(pair: Pair, size: int, rounds: int) -> Point:
    plans, rollbacks = [], []
    for n in range(rounds + 1):
        target = pair.bad if _live(pair.journal) == pair.good.id else pair.good
        order = Order(Level.SYSTEM, by=_BY, to=target.id)
        began = time.perf_counter()
        plan(pair.world, order)
        planned = time.perf_counter()
        ended(carry_out(pair.world, order))
        if n:  # the first also pays for imports and cold pages
            plans.append(planned - began)
            rollbacks.append(time.perf_counter() - planned)
        _lift_quarantine(pair.journal)
    return Point(size, median(plans), median(rollbacks))


def _live(journal: Path) -> str:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        return str(database.execute("SELECT release FROM routes").fetchone()[0])


def _lift_quarantine(journal: Path) -> None:
    """Behind the journal's back, so that the next round may go back."""
    with closing(sqlite3.connect(journal)) as database, database:
        database.execute("DELETE FROM quarantine")


def _write_history(pair: Pair, sagas: int) -> None:
    """Older sagas of the same system, like its last one, in epochs before the first."""
    ended(carry_out(pair.world, Order(Level.SYSTEM, by=_BY, to=pair.good.id)))
    _lift_quarantine(pair.journal)
    with closing(sqlite3.connect(pair.journal)) as database, database:
        newest = "SELECT id FROM sagas ORDER BY entry DESC LIMIT 1"
        told = {
            "sagas": sagas,
            "like": database.execute(newest).fetchone()[0],
            "one": pair.good.id,
            "other": pair.bad.id,
        }
        for statement in _HISTORY:
            database.execute(statement, told)
    with closing(sqlite3.connect(pair.journal)) as database:
        # A journal that grew slowly has no log of gigabytes beside it.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _draw(axes: dict[str, list[Point]], to: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(axes), figsize=(11, 3.2), sharey=True)
    for panel, (name, points) in zip(panels, axes.items(), strict=True):
        sizes = [at.size for at in points]
        panel.plot(sizes, [at.rollback * 1e3 for at in points], "o-", label="level 2 rollback")
        panel.plot(sizes, [at.plan * 1e3 for at in points], "s--", label="plan")
        panel.set(xscale="log", yscale="log", xlabel=name)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("median, ms")
    panels[0].legend(frameon=False)
    figure.tight_layout()
    to.parent.mkdir(exist_ok=True)
    figure.savefig(to, dpi=100, metadata={"Software": ""})


if __name__ == "__main__":
    sys.exit(main())
