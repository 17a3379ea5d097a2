"""For jobs that write batch outputs, and for those who read them.

    from ebbtide import outputs

    run = outputs.start("shop-search", "nightly-2026-03-01")
    rows = score(run.release, "2026-03-01")
    outputs.write("shop-search", "ranks", "2026-03-01", rows, run=run.id)

    for batch in outputs.read("shop-search", "ranks", consumer="mailer"):
        ...

A write replaces one partition, whole, in one commit; the same run and partition
twice is once. Each row says whose it is: `_release`, `_run`, `_partition`,
`_valid`. A reader through `read` never sees rows that were recalled, and the
journal keeps who read what.

`system` is a name below EBBTIDE_SYSTEMS (else `configs/systems`), or a `World`
from `ebbtide.bootstrap.open_world`, which a job that writes many partitions
opens once.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING, Any

from ebbtide.core.crashpoints import reach
from ebbtide.core.errors import Quarantined, Refused, Unknown
from ebbtide.core.outputs import OutputRun, OutputStore, Part, Standing
from ebbtide.core.ports import World
from ebbtide.core.release import Release

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OutputRun", "Part", "Rescoring", "read", "start", "write"]

_ID = r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,127}"
_LONGEST = 200


def start(system: str | World, run: str, *, release: str = "") -> OutputRun:
    """Bind a run to the release that it scores with: the live one, or the one named.

    To be called before anything is computed. The same id again is the same run,
    with the release that it was bound to first. Raises `Quarantined` where that
    was taken back since, `Refused` where nothing is live and none is named.
    """
    world = _world(system)
    if not fullmatch(_ID, run):
        raise Refused(f"{run[:80]!r} is no id of a run: letters, digits and `_.:@+-`.")
    bound = world.journal.output_run(world.system, run)
    if release:
        wanted = world.journal.release(release, world.system).id
    else:
        wanted = bound.release if bound else _live(world)
    return world.journal.begin_run(world.system, run, wanted)


def write(
    system: str | World,
    output: str,
    partition: str,
    rows: Any,
    *,
    run: str,
    release: str = "",
) -> Part:
    """Replace one partition of an output with the rows of a run.

    `rows`: Arrow data (a table, a stream of batches, a polars frame), a pandas
    frame, or a list of mappings; a column that is new is added to the table.
    A run that has not been started is bound to the live release, or to `release`.

    A run that has written the partition already writes nothing: after a crash
    the journal's intent and the table itself tell. Raises `Refused` for no rows
    and for rows that do not fit the table, `Quarantined` where the release was
    taken back since the run began (rows that had landed by then are marked
    invalid), `Conflict`, `Unreachable`.
    """
    world = _world(system)
    store = _store(world, output)
    _check_partition(partition)
    bound = start(world, run, release=release)
    part = world.journal.begin_part(bound, output, partition)
    reach("outputs.write/intent-written")
    if part.written_at is not None:
        return part
    standing = store.standing(output).get(partition)
    if standing is None or standing.run != run:
        standing = store.write(part, rows)
        reach("outputs.write/effect-done")
    return _settled(world, store, part, standing)


def read(
    system: str | World,
    output: str,
    *,
    consumer: str,
    partitions: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
) -> "pa.RecordBatchReader":
    """The valid rows of an output, as a stream of Arrow batches of one version of its table.

    The journal keeps that `consumer` was given them. `partitions`: only these,
    where they are there; `columns`: only these, of the job's and ebbtide's own.
    Raises `Unknown` for what was never written.
    """
    world = _world(system)
    store = _store(world, output)
    if not fullmatch(_ID, consumer):
        raise Refused(f"{consumer[:80]!r} is no name of a consumer.")

    def allowed(there: Mapping[str, Standing]) -> set[str]:
        return _valid(world, output, there)

    names = list(columns) if columns is not None else None
    batches, given = store.read(output, allowed, partitions, names)
    world.journal.note_read(world.system, output, consumer, given)
    found: pa.RecordBatchReader = batches
    return found


@dataclass(frozen=True, slots=True)
class Rescoring:
    """What a system's own function is given to score one recalled partition anew."""

    world: World
    part: Part
    """The part that was recalled."""
    release: Release
    """The good release, which the rows are to be scored with."""

    @property
    def partition(self) -> str:
        return self.part.partition

    def folder(self, layer: str, name: str) -> Path:
        """The pinned content of one thing of the release: a folder that nobody changes."""
        pin = self.release.pin(layer, name)
        if pin is None:
            raise Unknown(f"Release {self.release.short} has no {layer} {name}.")
        adapter: Any = self.world.layers[layer]
        return Path(adapter.path(pin))

    def answers(self, rows: Sequence[Any]) -> tuple[Any, ...]:
        """What the release's serving path answers to rows as a client sends them."""
        return self.world.scorer.answers(self.release, rows)


def _world(system: str | World) -> World:
    if isinstance(system, World):
        return system
    from ebbtide.bootstrap import SYSTEMS, open_world

    return open_world(system, Path(os.environ.get("EBBTIDE_SYSTEMS", "") or SYSTEMS))


def _store(world: World, output: str) -> OutputStore:
    known = world.outputs.told if world.outputs else {}
    if world.outputs is None or output not in known:
        raise Unknown(
            f"The system file of `{world.system}` names no output `{output}`.",
            remedy=f"There are: {', '.join(known) or 'none'}. Name it below `outputs`.",
        )
    return world.outputs


def _live(world: World) -> str:
    route = world.journal.route(world.system)
    if route is None or not route.release:
        raise Refused(f"`{world.system}` serves no release.", remedy="Name one: `release=...`.")
    return route.release


def _check_partition(partition: str) -> None:
    if not partition or len(partition) > _LONGEST or not partition.isprintable():
        raise Refused(f"{partition[:80]!r} is no name of a partition: printable text, 200 at most.")


def _settled(world: World, store: OutputStore, part: Part, standing: Standing | None) -> Part:
    """The part as the ledger has it, now that the table was read back."""
    if standing is None or not standing.run:
        raise Refused(
            f"Output `{part.output}`, {part.partition}, is not there as it was written.",
            remedy="Somebody has changed the table past ebbtide: look at its history.",
        )
    mine = standing.run == part.run
    done = world.journal.finish_part(
        part,
        # Of rows that others have replaced by now the count is known no more.
        rows=standing.rows if mine else None,
        version=standing.version,
        replaced_by="" if mine else standing.run,
    )
    if done.recall:
        store.mark(part.output, {part.partition: part.run})
        world.journal.mark_parts(world.system, [done])
        raise Quarantined(
            f"Output `{part.output}`, {part.partition}, was recalled while run {part.run} wrote "
            "it: its rows are marked invalid.",
            remedy="Run the job again as a new run, with the release that is live now.",
        )
    return done


def _valid(world: World, output: str, there: Mapping[str, Standing]) -> set[str]:
    """The partitions whose rows a run wrote that the ledger knows, and nobody recalled."""
    journal = world.journal
    parts = {
        (part.partition, part.run): part
        for part in journal.parts(world.system, output, standing=True)
    }
    found = set()
    for partition, shown in there.items():
        # One that was replaced since this version of the table is still what it shows.
        part = parts.get((partition, shown.run)) or journal.part(
            world.system, output, partition, shown.run
        )
        if part is not None and not part.recall:
            found.add(partition)
    return found
