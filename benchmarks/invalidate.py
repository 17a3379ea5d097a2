"""Invalidate: a tenth of a batch output is bad; it is recalled, and scored anew.

An output of 1,000 partitions with 10,000 rows each, of which a bad release wrote
every tenth, in one Delta table with its ledger in a journal. Each side starts in
a fresh process on a copy of its own, and its memory is the peak of that process,
with all its imports:

- recall: `flows.recalls.invalidate`: the ledger, the mark in the table, and who has read it;
- recall and score anew: the same with `rescore`, whose function makes the rows of one partition;
- rewriting everything: the same rows replaced by hand, in one stream of the whole table.

Then both at a tenth of the rows, and how each grew. Reading and writing through
the view is told beside it, on the large table.
"""

import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.common import Bar, Grid, Report, finish, ms, options, ratio, tell
from ebbtide import outputs
from ebbtide.core.outputs import Blame
from ebbtide.core.ports import World
from ebbtide.core.release import Evidence, Pin, Release

if TYPE_CHECKING:
    import pyarrow as pa

_OUTPUT, _SYSTEM = "prices", "bench"
_STATUS = Path("/proc/self/status")
_ROWS = 10_000
"""Of one partition."""
_EVERY = 10
"""One partition of so many is bad."""
_LIMIT = 2048.0
"""MiB."""


@dataclass(frozen=True, slots=True)
class Took:
    """What one side needed in a process of its own."""

    seconds: float
    peak: float
    """MiB."""
    rewritten: int
    """Data files of the table that were not there before."""
    kept: int
    """Data files of good partitions that are still the same."""


@dataclass(frozen=True, slots=True)
class Size:
    """All sides on a table of one size."""

    partitions: int
    recall: Took
    anew: Took
    everything: Took
    read: Took
    write: Took

    @property
    def rows(self) -> int:
        return self.partitions * _ROWS


def main(argv: Sequence[str] | None = None) -> int:
    asked = options(__doc__, argv)
    return finish(measure(asked.quick, (10, 100) if asked.quick else (100, 1000)), asked.json)


def measure(quick: bool, sizes: tuple[int, int]) -> Report:
    small, large = (_size(partitions) for partitions in sizes)
    report = Report("invalidate", __doc__ or "", quick)
    sides = ("recall", "recall and score anew", "rewriting everything")
    rows = []
    for name, one, other in zip(sides, _sides(small), _sides(large), strict=True):
        grew = f"{ratio(other.seconds, one.seconds):.1f}x"
        peak = f"{other.peak:,.0f}"
        rows.append((name, ms(one.seconds), ms(other.seconds), grew, peak, f"{other.rewritten:,}"))
    beside = tuple(
        (name, ms(took.seconds), f"{took.peak:,.0f}")
        for name, took in (
            ("every valid row read through the view", large.read),
            ("one partition written", large.write),
        )
    )
    at = f"{large.rows:,} rows"
    columns = ("", f"{small.rows:,} rows: ms", f"{at}: ms", "grew", "peak MiB", "files written")
    report.grids = [
        Grid("A tenth of an output is bad", columns, tuple(rows)),
        Grid(f"Beside it, of {at}", ("", "ms", "peak MiB"), beside),
    ]
    report.bars = [
        Bar(f"peak of a recall, {at}", large.recall.peak, _LIMIT, "MiB"),
        Bar(f"peak of a recall with scoring, {at}", large.anew.peak, _LIMIT, "MiB"),
        Bar(
            "rewriting everything / recall",
            ratio(large.everything.seconds, large.recall.seconds),
            2,
            "x",
            at_least=True,
        ),
        Bar(
            "share of good files that a recall leaves",
            ratio(large.recall.kept, large.partitions - large.partitions // _EVERY),
            1,
            at_least=True,
        ),
    ]
    report.figures = {str(each.rows): _figures(each) for each in (small, large)}
    return report


def _sides(size: Size) -> tuple[Took, Took, Took]:
    return size.recall, size.anew, size.everything


def _figures(size: Size) -> dict[str, Any]:
    named = ("recall", "anew", "everything", "read", "write")
    return {
        name: {
            "seconds": took.seconds,
            "peak_mib": took.peak,
            "rewritten": took.rewritten,
            "kept": took.kept,
        }
        for name, took in ((name, getattr(size, name)) for name in named)
    }


def _size(partitions: int) -> Size:
    with TemporaryDirectory(prefix="ebbtide-invalidate-") as folder:
        made = Path(folder) / "made"
        tell(f"{partitions * _ROWS:,} rows in {partitions:,} partitions are written")
        _apart(_make, made, partitions)
        found = {}
        for name, side in _SIDES.items():
            tell(name)
            copy = Path(folder) / "copy"
            shutil.copytree(made, copy)
            found[name] = _apart(side, copy, partitions)
            shutil.rmtree(copy)
        return Size(partitions, **found)


def _apart(side: Callable[[Path, int], None], folder: Path, partitions: int) -> Took:
    """Carry it out in a fresh process; raises `RuntimeError` where that failed."""
    before = _files(folder)
    context = multiprocessing.get_context("spawn")
    told = folder.parent / "took.json"
    process = context.Process(target=_carry, args=(side, folder, partitions, told))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{side.__name__} ended with {process.exitcode}.")
    seconds, peak = json.loads(told.read_text())
    after = _files(folder)
    good = {path for path in before & after if not _is_bad(_partition(path))}
    return Took(seconds, peak, len(after - before), len(good))


def _carry(side: Callable[[Path, int], None], folder: Path, partitions: int, told: Path) -> None:
    began = time.perf_counter()
    side(folder, partitions)
    seconds = time.perf_counter() - began
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    told.write_text(json.dumps([seconds, int(line.split()[1]) / 1024]))


def _make(folder: Path, partitions: int) -> None:
    """The table in one commit, as many runs would have left it; the ledger by its own methods."""
    import pyarrow as pa
    from deltalake import write_deltalake

    folder.mkdir()
    world = _world(folder)
    releases = {bad: _release("7" if bad else "6") for bad in (True, False)}
    for release in releases.values():
        world.journal.add_release(release, Evidence("bench", 0.0), None)
    runs = {
        bad: outputs.start(world, "bad" if bad else "good", release=release.id)
        for bad, release in releases.items()
    }

    def batches() -> "Iterator[pa.RecordBatch]":
        for name in _names(partitions):
            run, batch = runs[_is_bad(name)], _rows(name)
            stamps = [[each] * batch.num_rows for each in (run.release, name, run.id)]
            valid = [True] * batch.num_rows
            columns = [*batch.columns, *(pa.array(each) for each in stamps), pa.array(valid)]
            stamped = ["_release", "_partition", "_run", "_valid"]
            yield pa.RecordBatch.from_arrays(columns, names=[*batch.schema.names, *stamped])

    schema = next(batches()).schema
    stream = pa.RecordBatchReader.from_batches(schema, batches())
    by = ["_partition", "_run", "_valid"]
    write_deltalake(folder / _OUTPUT, stream, partition_by=by)
    for name in _names(partitions):
        part = world.journal.begin_part(runs[_is_bad(name)], _OUTPUT, name)
        world.journal.finish_part(part, rows=_ROWS, version=0)
    given = [(name, runs[_is_bad(name)].id) for name in _names(partitions)]
    world.journal.note_read(_SYSTEM, _OUTPUT, "reports", given)


def _recall(folder: Path, partitions: int) -> None:
    _invalidate(folder, partitions, rescore=False)


def _recall_and_score_anew(folder: Path, partitions: int) -> None:
    _invalidate(folder, partitions, rescore=True)


def _invalidate(folder: Path, partitions: int, *, rescore: bool) -> None:
    from flows.recalls import Wish, invalidate

    wish = Wish(Blame(release=_release("7").id), "bench", rescore=rescore, good=_release("6").id)
    outcome = invalidate(_world(folder), wish)
    bad = len([name for name in _names(partitions) if _is_bad(name)])
    _require(len(outcome.parts) == outcome.new == bad)
    _require(len(outcome.reached[0].partitions) == bad)
    _require(len(outcome.waiting) == (0 if rescore else bad) and not outcome.failures)


def _rewrite_everything(folder: Path, _partitions: int) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    from deltalake import DeltaTable, write_deltalake

    table = DeltaTable(folder / _OUTPUT)
    found = pa.RecordBatchReader.from_stream(table.scan())
    found = found.cast(pa.schema(table.schema().to_arrow()))
    names = found.schema.names

    def mended() -> "Iterator[pa.RecordBatch]":
        for batch in found:
            good = pc.equal(batch.column("_run"), "good")
            fixed = [batch.column(name) for name in names]
            fixed[names.index("price")] = pc.if_else(good, batch.column("price"), pa.scalar(6.0))
            yield pa.RecordBatch.from_arrays(fixed, schema=found.schema)

    stream = pa.RecordBatchReader.from_batches(found.schema, mended())
    by = ["_partition", "_run", "_valid"]
    write_deltalake(folder / _OUTPUT, stream, mode="overwrite", partition_by=by)


def _read(folder: Path, partitions: int) -> None:
    batches = outputs.read(_world(folder), _OUTPUT, consumer="reports")
    _require(sum(batch.num_rows for batch in batches) == partitions * _ROWS)


def _write(folder: Path, _partitions: int) -> None:
    rows = _rows("p00001")
    good = _release("6").id
    outputs.write(_world(folder), _OUTPUT, "p00001", rows, run="later", release=good)


_SIDES: dict[str, Callable[[Path, int], None]] = {
    "recall": _recall,
    "anew": _recall_and_score_anew,
    "everything": _rewrite_everything,
    "read": _read,
    "write": _write,
}


def rescore(job: outputs.Rescoring) -> "pa.RecordBatch":
    """The function of the system's own: as many rows again, at the good price."""
    return _rows(job.partition)


def _world(folder: Path) -> World:
    from dataclasses import replace

    from ebbtide.adapters.delta.outputs import OutputTables
    from ebbtide.adapters.system.things import OutputThing
    from ebbtide.testing import fake_world

    thing = OutputThing(path=_OUTPUT, rescore="benchmarks.invalidate:rescore")
    tables = OutputTables({_OUTPUT: thing}, lambda path: folder / path)
    return replace(fake_world(folder, _SYSTEM), outputs=tables)


def _release(version: str) -> Release:
    pin = Pin("prices", version * 64, {"version": version})
    return Release(_SYSTEM, {"model": (pin,)})


def _rows(name: str) -> "pa.RecordBatch":
    import numpy as np
    import pyarrow as pa

    numbers = np.random.default_rng(int(name[1:]))
    return pa.record_batch(
        {
            "rider": pa.array(numbers.integers(0, 1 << 40, _ROWS)),
            "zone": pa.array(numbers.integers(0, 250, _ROWS).astype("int32")),
            "price": pa.array(numbers.random(_ROWS) * 40),
        }
    )


def _names(partitions: int) -> list[str]:
    return [f"p{n:05}" for n in range(partitions)]


def _is_bad(name: str) -> bool:
    return int(name[1:]) % _EVERY == 0


def _files(folder: Path) -> set[str]:
    """The data files of the newest version, by their paths."""
    from deltalake import DeltaTable

    place = folder / _OUTPUT
    if not place.exists():
        return set()
    return set(DeltaTable(place).get_add_actions().column("path").to_pylist())


def _partition(path: str) -> str:
    return path.partition("_partition=")[2].partition("/")[0]


def _require(held: bool) -> None:
    if not held:
        raise RuntimeError("What was measured did not do what it has to.")


if __name__ == "__main__":
    sys.exit(main())
