"""Leases of a release: taken, mended from, and refused where it was given up."""

from ebbtide.core.ports import World
from ebbtide.core.release import Release
from ebbtide.core.retention import (
    GivenUp,
    Keeping,
)


def keep(world: World, release: Release) -> None:
    """Take every lease of a release that is not there. Raises `NotRestorable`."""
    for layer, pins in release.layers.items():
        adapter = world.layers.get(layer)
        if isinstance(adapter, Keeping):
            for pin in pins:
                if adapter.kept_faults(pin):
                    adapter.prepare(pin)


def mend(world: World, release: Release, layer: str) -> None:
    """Give a layer's store back what it has lost and a lease still has: stages read it there."""
    adapter = world.layers.get(layer)
    if isinstance(adapter, Keeping):
        for pin in release.pins(layer):
            if not pin.unmade and adapter.lost_outside(pin):
                adapter.prepare(pin)


def refuse_given_up(world: World, release: Release) -> Release:
    """The release itself. Raises `GivenUp` where it was given up."""
    if release.id in world.journal.given_up(world.system):
        raise GivenUp(
            f"{release.short} was given up by `ebbtide gc`: what it needs may be gone.",
            remedy="Choose another; or record the same versions anew with `ebbtide release`, "
            "where they can still be had.",
        )
    return release
