"""What version of each table is the latest: reference tables, and at level `data` all."""

from ebbtide.core.gates import Finding
from ebbtide.core.left import Remembering
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import PINS, Pins, compensatable
from tasks import projection

LAYER = "data"


@compensatable(remember=projection.shown(LAYER), memory=PINS)
def restore_tables(world: World, move: Move, was: Pins) -> None:
    """Restore each table to the release's version, as a new commit."""
    projection.follow(world, move, was, LAYER)


def fingerprints(world: World, move: Move) -> Finding:
    """Each table's files are those of the release's version."""
    return projection.shows_target(world, move, LAYER)


def return_tables(world: World, move: Move, was: Pins) -> None:
    """Restore the version from before, unless somebody else has written since."""
    tables = world.layers[LAYER]
    if isinstance(tables, Remembering):
        was = {name: pin for name, pin in was.items() if tables.is_moved(name, pin, move.saga)}
    projection.give_back(world, move, was, LAYER)
