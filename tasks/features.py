"""Which materialised features are the live ones."""

from ebbtide.core.gates import Finding, failed, passed, worst
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import PINS, Pins, aside, compensatable
from tasks import projection, target

LAYER = "features"


@aside
def materialise(world: World, move: Move, _was: None) -> None:
    """Build the features' release directory aside, where it is missing."""
    for pin in move.changed(LAYER):
        world.layers[LAYER].prepare(pin)


def features_are_whole(world: World, move: Move) -> Finding:
    """Every file of the features hashes to what the release recorded."""
    return worst(
        failed("; ".join(problems)) if problems else passed(f"{pin.name} {pin} is whole")
        for pin in move.changed(LAYER)
        for problems in [world.layers[LAYER].problems(pin)]
    )


@aside
def remake(world: World, move: Move, _was: None) -> None:
    """Make the features that the target waits for, aside, by their pipeline."""
    target.make(world, move, LAYER)


def remade_are_whole(world: World, move: Move) -> Finding:
    """The features are made, and every file of them hashes to what was recorded."""
    return target.is_made(world, move, LAYER)


@compensatable(remember=projection.shown(LAYER), memory=PINS)
def repoint_link(world: World, move: Move, was: Pins) -> None:
    """Let the link to the live features lead to the release's directory."""
    projection.follow(world, move, was, LAYER)


def link_and_digest(world: World, move: Move) -> Finding:
    """The link leads there, and the content hashes to the pin."""
    return projection.shows_target(world, move, LAYER)


def return_link(world: World, move: Move, was: Pins) -> None:
    """Let the link lead back, unless somebody else has moved it since."""
    projection.give_back(world, move, was, LAYER)
