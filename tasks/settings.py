"""Which configuration and which infrastructure settings are the live ones."""

from ebbtide.core.gates import Finding
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import PINS, Pins, compensatable
from tasks import projection

CONFIG, INFRA = "config", "infra"


@compensatable(remember=projection.shown(CONFIG), memory=PINS)
def publish_config(world: World, move: Move, was: Pins) -> None:
    """Let the live configuration be that of the release's commit."""
    projection.follow(world, move, was, CONFIG)


def config_as_pinned(world: World, move: Move) -> Finding:
    """The live configuration hashes to the pin."""
    return projection.shows_target(world, move, CONFIG)


def return_config(world: World, move: Move, was: Pins) -> None:
    """Publish the configuration from before, unless somebody else has changed it."""
    projection.give_back(world, move, was, CONFIG)


@compensatable(remember=projection.shown(INFRA), memory=PINS)
def publish_infra(world: World, move: Move, was: Pins) -> None:
    """Let the live infrastructure settings be those of the release's commit."""
    projection.follow(world, move, was, INFRA)


def infra_as_pinned(world: World, move: Move) -> Finding:
    """The live infrastructure settings hash to the pin."""
    return projection.shows_target(world, move, INFRA)


def return_infra(world: World, move: Move, was: Pins) -> None:
    """Publish the infrastructure settings from before, unless somebody else has changed them."""
    projection.give_back(world, move, was, INFRA)
