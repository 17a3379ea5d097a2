"""Which version of each prompt is in production."""

from ebbtide.core.gates import Finding
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import PINS, Pins, compensatable
from tasks import projection

LAYER = "prompt"


@compensatable(remember=projection.shown(LAYER), memory=PINS)
def repoint_prompt(world: World, move: Move, was: Pins) -> None:
    """Hand the prompt's alias to the version that the release pins."""
    projection.follow(world, move, was, LAYER)


def prompt_and_hash(world: World, move: Move) -> Finding:
    """The alias is at that version, and its template hashes to the pin."""
    return projection.shows_target(world, move, LAYER)


def return_prompt(world: World, move: Move, was: Pins) -> None:
    """Hand the alias back, unless somebody else has taken it since."""
    projection.give_back(world, move, was, LAYER)
