"""What restored tables do not show any more: kept, and named in the saga's report."""

from collections.abc import Iterator
from datetime import UTC, datetime

from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.left import Leaving, Left
from ebbtide.core.ports import World
from ebbtide.core.release import Pin
from ebbtide.core.saga import Move
from ebbtide.core.step import PINS, aside
from tasks import data


@aside
def keep_rows(world: World, move: Move, _was: None) -> None:
    """Keep the rows that the restored tables do not show any more, safe from vacuum."""
    if tables := _leaving(world):
        for before, after in _restored(world, move):
            tables.keep_left(before, after, move.saga)


def rows_are_kept(world: World, move: Move) -> Finding:
    """They are there, and the report says how many, whose, since when, and how to have them."""
    tables, told, measured = _leaving(world), [], {}
    if tables is None:
        return passed("these tables keep no rows")
    for before, _ in _restored(world, move):
        kept = tables.kept_left(before.name, move.saga)
        if kept is None:
            return failed(f"The rows that {before.name} does not show any more are not kept.")
        measured[kept.table] = kept.to_json()
        if kept.rows:
            told.append(f"{said(kept)} {command(world.system, kept.table, move.saga)}")
    return passed(" ".join(told) or "no row was left behind", **measured)


def said(left: Left) -> str:
    """How many rows, whose and since when, in a sentence."""
    text = f"{left.table}: {left.rows:,} rows of version {left.version} are left behind"
    if left.rewritten:
        text += f" (up to {left.rewritten:,} of them are in version {left.target} too)"
    if left.writers:
        text += f", written by {', '.join(left.writers)}"
    if left.since is not None and left.until is not None:
        text += f" from {_time(left.since)} to {_time(left.until)}"
    if left.versions:
        text += f" as {_versions(left.versions)}"
    return f"{text}."


def command(system: str, table: str, saga: str) -> str:
    """What gives the rows back, as a person types it."""
    return f"ebbtide export-rows {system} {table} --saga {saga} --to {table}.parquet"


def _restored(world: World, move: Move) -> Iterator[tuple[Pin, Pin]]:
    """What each table showed before this saga restored it, and what it shows since."""
    name = data.restore_tables.name
    record = next((each for each in world.journal.steps(move.saga) if each.name == name), None)
    for table, before in PINS.load(record.remembered).items() if record else ():
        after = move.target.pin(data.LAYER, table)
        if before and after and before.digest != after.digest:
            yield before, after


def _leaving(world: World) -> Leaving | None:
    adapter = world.layers.get(data.LAYER)
    return adapter if isinstance(adapter, Leaving) else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _versions(versions: tuple[int, ...]) -> str:
    if len(versions) == 1:
        return f"version {versions[0]}"
    return f"{len(versions)} versions, {versions[0]} to {versions[-1]}"
