"""Who may write to the tables that a rollback restores: nobody else, until it is proved."""

from collections.abc import Iterator, Mapping

from ebbtide.core.crashpoints import reach
from ebbtide.core.fences import Holding
from ebbtide.core.fencing import still_ours
from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import Memory, aside, compensatable
from tasks.route import lease

LAYER = "data"

Fenced = Mapping[str, bool]
"""The tables that have to be restored, each with whether its writers were held back already."""

FENCED: Memory[Fenced] = Memory(dump=dict, load=dict)


def to_be_restored(world: World, move: Move) -> Fenced:
    """The tables that do not show the target already: only those are restored."""
    standing = {fence.table for fence in world.journal.fences(world.system)}
    adapter = world.layers[LAYER]
    return {
        pin.name: pin.name in standing
        for pin in move.changed(LAYER)
        if (live := adapter.live(pin.name)) is None or live.digest != pin.digest
    }


@compensatable(remember=to_be_restored, memory=FENCED)
def hold(world: World, move: Move, was: Fenced) -> None:
    """Hold back the writers of the tables that will be restored."""
    world.journal.raise_fence(lease(world, move), tuple(was))
    reach("writers.hold/raised")
    for name in was:
        if tables := _holding(world):
            still_ours()
            tables.hold_writers(name, world.system, move.saga)


def are_held(world: World, move: Move) -> Finding:
    """Each of these tables carries the saga's fence, read back."""
    names = [name for name, saga in _fences(world) if saga == move.saga]
    tables = _holding(world)
    open_ones = [
        name for name in names if tables and tables.held_by(name, world.system) != move.saga
    ]
    if open_ones:
        return failed(f"Writers of {', '.join(open_ones)} are not held back.")
    return passed(f"held back: {', '.join(names)}" if names else "no table has to be restored")


def let_go(world: World, move: Move, was: Fenced) -> None:
    """Let those go that were not held back before."""
    _lift(world, move, [name for name, before in was.items() if not before])


@aside
def release(world: World, move: Move, _was: None) -> None:
    """Let the writers of all tables go, also where an earlier saga ended without doing so."""
    names = [name for name, _ in _fences(world)]
    world.journal.raise_fence(lease(world, move), names)
    _lift(world, move, names)


def are_released(world: World, _move: Move) -> Finding:
    """No table of the system carries its fence any more."""
    names = [name for name, _ in _fences(world)]
    return failed(f"Still held back: {', '.join(names)}.") if names else passed("nobody is held")


def _lift(world: World, move: Move, names: list[str]) -> None:
    # The table first: as long as the journal knows of a fence, it is looked for.
    for name in names:
        if tables := _holding(world):
            still_ours()
            tables.let_writers_go(name, world.system)
            reach("writers.lift/one")
    world.journal.lift_fence(lease(world, move), names)


def _holding(world: World) -> Holding | None:
    """The tables, where their adapter can hold writers back."""
    adapter = world.layers.get(LAYER)
    return adapter if isinstance(adapter, Holding) else None


def _fences(world: World) -> Iterator[tuple[str, str]]:
    for fence in world.journal.fences(world.system):
        yield fence.table, fence.saga
