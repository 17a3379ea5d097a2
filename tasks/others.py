"""Layers of the user's own: whatever they are, they follow the release like the built-in ones.

One row moves all of them, and remembers for each what it showed.
"""

from collections.abc import Mapping

from ebbtide.core.errors import Conflict, EbbtideError, UndoConflict
from ebbtide.core.gates import Finding, failed, passed, worst
from ebbtide.core.ports import World
from ebbtide.core.saga import OTHERS, Move
from ebbtide.core.step import PINS, Memory, Pins, aside, compensatable
from tasks import projection

Shown = Mapping[str, Pins]
"""What the projections showed, by layer and name."""

SHOWN: Memory[Shown] = Memory(
    dump=lambda layers: {layer: PINS.dump(pins) for layer, pins in layers.items()},
    load=lambda data: {layer: PINS.load(pins) for layer, pins in data.items()},
)


@aside
def prepare(world: World, move: Move, _was: None) -> None:
    """Make what the layers of your own will show ready, aside."""
    for layer in move.changed_layers(OTHERS):
        for pin in move.changed(layer):
            world.layers[layer].prepare(pin)


def are_ready(world: World, move: Move) -> Finding:
    """Nothing of it is missing or changed."""
    return worst(_whole(world, move, layer) for layer in move.changed_layers(OTHERS))


def shown(world: World, move: Move) -> Shown:
    """What the projections of all those layers show now, where the move changes them."""
    return {layer: projection.shown(layer)(world, move) for layer in move.changed_layers(OTHERS)}


@compensatable(remember=shown, memory=SHOWN)
def follow(world: World, move: Move, was: Shown) -> None:
    """Let the layers of your own show what the release pins."""
    for layer in move.changed_layers(OTHERS):
        projection.follow(world, move, was[layer], layer)


def show_target(world: World, move: Move) -> Finding:
    """Each shows the pinned content, read back."""
    layers = move.changed_layers(OTHERS)
    return worst(projection.shows_target(world, move, layer) for layer in layers)


def return_all(world: World, move: Move, was: Shown) -> None:
    """Let each show what it showed; a layer that cannot does not keep the others from it."""
    faults: list[Exception] = []
    for layer in reversed(list(was)):
        try:
            projection.give_back(world, move, was[layer], layer)
        except Exception as fault:  # noqa: BLE001 - an adapter of the user's own may raise anything
            faults.append(fault)
    if faults:
        only_conflicts = all(isinstance(fault, Conflict) for fault in faults)
        kind = UndoConflict if only_conflicts else EbbtideError
        raise kind(" ".join(map(_told, faults))) from faults[0]


def _whole(world: World, move: Move, layer: str) -> Finding:
    adapter, pins = world.layers[layer], move.changed(layer)
    problems = [problem for pin in pins for problem in adapter.problems(pin)]
    if problems:
        return failed(f"{layer}: {' '.join(problems)}")
    return passed(f"{layer}: {', '.join(f'{pin.name} {pin}' for pin in pins)}")


def _told(fault: Exception) -> str:
    return str(fault) if isinstance(fault, EbbtideError) else f"{type(fault).__name__}: {fault}"
