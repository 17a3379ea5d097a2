"""Who holds the alias of each model in the registry."""

from ebbtide.core.gates import Finding
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import PINS, Pins, aside, compensatable
from tasks import projection, target

LAYER = "model"


@aside
def find_or_train(world: World, move: Move, _was: None) -> None:
    """Find the registered model of exactly this lineage; only where there is none, train it."""
    target.make(world, move, LAYER)


def is_of_this_lineage(world: World, move: Move) -> Finding:
    """Each model was trained on the target's features, and its artifacts are whole."""
    return target.is_made(world, move, LAYER)


@compensatable(remember=projection.shown(LAYER), memory=PINS)
def repoint_alias(world: World, move: Move, was: Pins) -> None:
    """Hand the registry alias to the version that the release pins."""
    projection.follow(world, move, was, LAYER)


def alias_and_hash(world: World, move: Move) -> Finding:
    """The alias is at that version, and its artifacts hash to the pin."""
    return projection.shows_target(world, move, LAYER)


def return_alias(world: World, move: Move, was: Pins) -> None:
    """Hand the alias back, unless somebody else has taken it since."""
    projection.give_back(world, move, was, LAYER)
