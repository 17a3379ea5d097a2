"""Whether a model that was never proved is as good as the one that it stands in for."""

from collections.abc import Collection

from ebbtide.core.gates import Finding, passed, worst
from ebbtide.core.ports import World
from ebbtide.core.quality import Measured, Quality, as_good
from ebbtide.core.release import Pin
from ebbtide.core.saga import Move

LAYER = "model"


def trained_as_well(world: World, move: Move) -> Finding:
    """A newly trained model is not worse than the one before by more than is allowed."""
    proved = _proved(world)
    findings = [_finding(world, move, pin, proved) for pin in move.target.pins(LAYER)]
    return worst(findings) if findings else passed("the system has no model")


def _finding(world: World, move: Move, pin: Pin, proved: Collection[str]) -> Finding:
    before = [release.pin(LAYER, pin.name) for release in (move.source, move.base) if release]
    new = _quality(world, pin)
    if pin in before:
        return passed(f"model {pin.name} stays")
    if pin.digest in proved:
        return passed(f"model {pin.name} {pin} was proved before, with {new or 'no metric'}")
    known = (_quality(world, each) for each in before if each)
    told = next((each for each in known if each and each.value is not None), None)
    return as_good(pin.name, new, told)


def _proved(world: World) -> set[str]:
    """Contents of models that were proved in production, in whatever release.

    A model that this very gate refused is found again by its lineage, and is
    not among them.
    """
    journal = world.journal
    releases = [journal.release(each, world.system) for each in journal.proved(world.system)]
    return {pin.digest for release in releases for pin in release.pins(LAYER)}


def _quality(world: World, pin: Pin) -> Quality | None:
    adapter = world.layers[LAYER]
    return adapter.quality(pin) if isinstance(adapter, Measured) else None
