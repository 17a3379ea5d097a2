"""What the saga goes to, once all of it is made."""

from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.keeping import (
    keep,
    mend,
)
from ebbtide.core.making import as_far_as_made, maker
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import aside
from tasks.route import lease


@aside
def record(world: World, move: Move, _was: None) -> None:
    """Record the target as a release, now that every layer of it is made, and lease it."""
    world.journal.record_target(lease(world, move), move.target)
    keep(world, move.target)


def is_recorded(world: World, move: Move) -> Finding:
    """The journal has the target, whole, and the saga goes to it."""
    if move.target.unmade:
        return failed(f"Not made: {_waiting(move)}.")
    saga = world.journal.saga(move.saga)
    if saga.target != move.target.id:
        return failed(f"The saga goes to {saga.target[:12]}, not to {move.target.short}.")
    return passed(f"release {world.journal.release(move.target.id).short}")


def make(world: World, move: Move, layer: str) -> None:
    """Make what the target waits for in one layer, aside."""
    for each, recipe in move.target.unmade:
        if each == layer:
            mend(world, move.target, "data")
            world.tell(f"{layer} {recipe.name}: {recipe}")
            maker(world.layers, layer).make(recipe, move.target, world.tell)


def is_made(world: World, move: Move, layer: str) -> Finding:
    """Nothing of the layer is still to be made, and what was made is whole."""
    target = as_far_as_made(world.layers, move.target)
    waiting = [recipe for each, recipe in target.unmade if each == layer]
    if waiting:
        return failed(f"Not made: {', '.join(f'{pin.name} {pin}' for pin in waiting)}.")
    problems = [
        f"{pin.name}: {problem}"
        for pin in target.pins(layer)
        if pin not in move.target.pins(layer)
        for problem in world.layers[layer].problems(pin)
    ]
    if problems:
        return failed("; ".join(problems))
    return passed(", ".join(f"{pin.name} {pin}" for pin in target.pins(layer)))


def _waiting(move: Move) -> str:
    return ", ".join(f"{layer} {pin.name} {pin}" for layer, pin in move.target.unmade)
