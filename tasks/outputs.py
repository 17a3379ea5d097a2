"""What batch jobs wrote with the release that was left: taken back, and scored anew."""

import logging
from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any

from ebbtide import outputs
from ebbtide.core.errors import (
    BadConfiguration,
    Conflict,
    EbbtideError,
    Unknown,
    Unreachable,
)
from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.outputs import Blame, Part
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import aside
from tasks.route import lease

_log = logging.getLogger(__name__)


def are_kept(world: World) -> bool:
    """The system has batch outputs, or had some."""
    return world.outputs is not None or bool(world.journal.parts(world.system))


@aside
def recall(world: World, move: Move, _was: None) -> None:
    """Recall the batch outputs that the bad release wrote, and mark their rows invalid."""
    blame = _blame(move)
    if blame is None:
        return
    reason = move.reason or "rolled back"
    parts = world.journal.recall(
        world.system, blame, by=move.by, reason=reason, lease=lease(world, move)
    )
    for output, fault in mark_or_owe(world, parts).items():
        _log.warning("Recalled parts of output %s are not marked yet: %s", output, fault)


def are_recalled(world: World, move: Move) -> Finding:
    """No reader through the view sees a row that the bad release wrote."""
    blame = _blame(move)
    if blame is None:
        return passed("there was no release before")
    mine = [part for part in world.journal.parts(world.system) if blame.covers_run(part)]
    standing = [f"{part.output} {part.partition}" for part in mine if not part.recall]
    if standing:
        return failed(f"Not recalled: {', '.join(standing[:5])}.", parts=len(standing))
    owed = sum(not part.marked for part in mine)
    return passed(f"{len(mine)} parts of batch outputs are recalled", parts=len(mine), owed=owed)


def mark_or_owe(world: World, parts: Collection[Part]) -> dict[str, EbbtideError]:
    """Mark what can be marked now; of what is owed until its table is back, why, by output.

    The ledger hides it from every reader of the view already.
    """
    faults = mark_each(world, parts)[1]
    for fault in faults.values():
        if not isinstance(fault, Unreachable | Conflict):
            raise fault
    return faults


def mark_each(
    world: World, parts: Collection[Part]
) -> tuple[dict[str, int], dict[str, EbbtideError]]:
    """How many parts of each output are marked now; what kept others from it, by output."""
    marked: dict[str, int] = {}
    faults: dict[str, EbbtideError] = {}
    for output in sorted({part.output for part in parts}):
        try:
            marked[output] = mark(world, [part for part in parts if part.output == output])
        except EbbtideError as fault:
            faults[output] = fault
    return marked, faults


def mark(world: World, parts: Collection[Part]) -> int:
    """Mark the rows of recalled parts invalid in their tables; how many parts are so now.

    Idempotent. A part that was begun and is not in its table may yet land there:
    it stays to be marked. Raises `Unreachable`, `Conflict`.
    """
    owed = [part for part in parts if part.recall and not part.marked]
    done: list[Part] = []
    for output in sorted({part.output for part in owed}):
        done += _marked(world, output, [part for part in owed if part.output == output])
    if done:
        world.journal.mark_parts(world.system, done)
    return len(done)


def score_anew(world: World, part: Part, good: str, run: str) -> Part:
    """Let the system's own function score a recalled partition with a good release.

    The run is idempotent as every run is. Raises what the function raises, and
    what `ebbtide.outputs.write` does.
    """
    before = world.journal.part(world.system, part.output, part.partition, run)
    if before is not None and before.written_at is not None and not before.recall:
        return before
    function = _function(world, part.output)
    release = world.journal.release(good, world.system)
    outputs.start(world, run, release=good)
    rows = function(outputs.Rescoring(world, part, release))
    return outputs.write(world, part.output, part.partition, rows, run=run, release=good)


def _blame(move: Move) -> Blame | None:
    bad = move.bad
    return Blame(release=bad.id) if bad else None


def _marked(world: World, output: str, parts: list[Part]) -> list[Part]:
    if world.outputs is None or output not in world.outputs.told:
        _log.warning("Output %s is in the system file no more: its rows stay unmarked.", output)
        return []
    shown = world.outputs.standing(output)
    there = {
        part.partition: part.run
        for part in parts
        if part.partition in shown and shown[part.partition].run == part.run
    }
    world.outputs.mark(output, there)
    # A table that shows nothing is away, or was lost: nothing is known of its rows.
    return [
        part
        for part in parts
        if shown and (part.written_at is not None or there.get(part.partition) == part.run)
    ]


def _function(world: World, output: str) -> Callable[[outputs.Rescoring], Any]:
    told = world.outputs.told.get(output) if world.outputs else None
    if told is None:
        raise Unknown(f"The system file of `{world.system}` names no output `{output}`.")
    if not told.rescore:
        raise BadConfiguration(
            f"Nothing scores output `{output}` anew.",
            remedy=f"Name it in the system file: `outputs.{output}.rescore: module:function`.",
        )
    module, _, name = told.rescore.partition(":")
    try:
        found: Callable[[outputs.Rescoring], Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as fault:
        raise BadConfiguration(
            f"`outputs.{output}.rescore` {told.rescore} cannot be loaded: {fault}",
            remedy="Install its package where this runs, also on every Dask worker.",
        ) from fault
    return found
