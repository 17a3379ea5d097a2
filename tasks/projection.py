"""What the layers have in common: an outside pointer follows the release.

Each layer has a file of its own with its words; the move itself is here once.
"""

from collections.abc import Callable, Collection

from ebbtide.core.crashpoints import reach
from ebbtide.core.errors import Conflict, UndoConflict, Unreachable
from ebbtide.core.gates import Finding, failed, passed, worst
from ebbtide.core.paying import is_owed, may_follow_later
from ebbtide.core.ports import World
from ebbtide.core.release import Pin
from ebbtide.core.saga import Move
from ebbtide.core.step import Pins


def shown(layer: str) -> Callable[[World, Move], Pins]:
    """What the layer's projections show now, of those that the move changes."""

    def remember(world: World, move: Move) -> Pins:
        return {pin.name: _shown(world, move, layer, pin) for pin in move.changed(layer)}

    return remember


def follow(world: World, move: Move, was: Pins, layer: str) -> None:
    """Let the projections show the target; each only from what it was seen to show."""
    for pin in move.changed(layer):
        _move(world, layer, pin.name, pin, only_from=(was[pin.name],), note=move.saga)
        reach("projection.follow/one")


def _shown(world: World, move: Move, layer: str, pin: Pin) -> Pin | None:
    """What it shows; where nobody can say, what the source had it show."""
    try:
        return world.layers[layer].live(pin.name)
    except Unreachable:
        if not may_follow_later(world, layer, pin):
            raise
        return move.source.pin(layer, pin.name) if move.source else None


def _move(
    world: World,
    layer: str,
    name: str,
    to: Pin | None,
    *,
    only_from: Collection[Pin | None],
    note: str,
) -> None:
    """Let one follow, under a lease that is still held; it is owed where its store is away."""
    if world.lease:
        world.journal.hold(world.lease)
    try:
        world.layers[layer].move(name, to, only_from=only_from, note=note)
    except Unreachable as fault:
        if world.lease is None or not may_follow_later(world, layer, to):
            raise
        world.journal.owe(world.lease, layer, name, fault.message)


def give_back(world: World, move: Move, was: Pins, layer: str) -> None:
    """Let each show again what it showed, unless somebody else has moved it since.

    All are tried: one conflict does not leave the others standing.
    """
    conflicts = []
    for name, before in was.items():
        target = move.target.pin(layer, name)
        try:
            _move(world, layer, name, before, only_from=(target,), note=f"{move.saga}/undo")
            reach("projection.give_back/one")
        except Conflict as conflict:
            conflicts.append(conflict)
    if conflicts:
        raise UndoConflict(
            " ".join(conflict.message for conflict in conflicts),
            remedy="Settle who is right, then `ebbtide verify`.",
        ) from conflicts[0]


def shows_target(world: World, move: Move, layer: str) -> Finding:
    """Read the projections back, and the content behind them."""
    # What was made may have come out as it was before: then all of the layer is looked at.
    pins = move.changed(layer) or move.target.pins(layer)
    return worst(_shows(world, layer, pin) for pin in pins)


def _shows(world: World, layer: str, pin: Pin) -> Finding:
    try:
        live = world.layers[layer].live(pin.name)
    except Unreachable as fault:
        if is_owed(world, layer, pin.name):
            return passed(f"{pin.name} is owed: {fault.message}", owed=True)
        raise
    if live is None or live.digest != pin.digest:
        return failed(f"{layer} {pin.name} shows {live or 'nothing'}, not {pin}.")
    return passed(f"{pin.name} is {pin}")
