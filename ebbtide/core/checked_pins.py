"""What releases pin, and whether it is all still there. Reads only."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial

from ebbtide.core.checks import Check, State, looked, said
from ebbtide.core.giving_up import facts_of
from ebbtide.core.glancing import Glancing
from ebbtide.core.ports import Layer, World
from ebbtide.core.release import Pin, Release
from ebbtide.core.retention import Keeping, retained

Place = tuple[str, Pin]
"""A pin, and the layer that it is of."""


def retained_releases(world: World) -> tuple[list[Release], list[Check]]:
    """The releases that ebbtide has promised to keep."""
    try:
        kept = retained(world.policy.retention, facts_of(world))
        return [world.journal.release(each, world.system) for each in kept], []
    except Exception as fault:  # noqa: BLE001 - whatever keeps it from looking
        return [], [Check("retained releases", State.UNKNOWN, said(fault))]


def pinned(releases: Iterable[Release]) -> Mapping[Place, str]:
    """What releases pin, with a release that does: the last of them, for people."""
    return {
        (layer, pin): release.short
        for release in releases
        for layer, pins in release.layers.items()
        for pin in pins
    }


def glanced_at(world: World, places: Iterable[Place]) -> frozenset[Place]:
    return frozenset(place for place in places if isinstance(world.layers.get(place[0]), Glancing))


def called(place: Place, release: str) -> str:
    layer, pin = place
    return f"{layer} {pin.name} {pin} of {release}"


def of_leases(
    world: World, pins: Mapping[Place, str], glanced: Collection[Place]
) -> Iterator[Check]:
    """What somebody has broken outside ebbtide, though the content can still be had."""
    for place, release in pins.items():
        adapter = world.layers.get(place[0])
        if isinstance(adapter, Keeping):
            at_a_glance = isinstance(adapter, Glancing) and place in glanced
            lost = adapter.glance_outside if at_a_glance else adapter.lost_outside
            yield looked(f"lease of {called(place, release)}", _lease(adapter, lost, place[1]))


def _lease(
    adapter: Keeping, outside: Callable[[Pin], list[str]], pin: Pin
) -> Callable[[], list[str]]:
    def look() -> list[str]:
        missing, lost = adapter.kept_faults(pin), outside(pin)
        if lost and not missing and adapter.kept_at(pin) is not None:
            lost = [*lost, "What ebbtide keeps is the last copy."]
        return [*missing, *lost]

    return look


def of_layers(
    world: World, live: Release | None, pins: Mapping[Place, str], glanced: Collection[Place]
) -> Iterator[Check]:
    for name, adapter in world.layers.items():
        for place, release in pins.items():
            if place[0] == name:
                yield looked(called(place, release), _look(adapter, place, glanced))
    for layer, there in live.layers.items() if live else ():
        for pin in there:
            if not pin.lineage:
                yield looked(f"{layer} {pin.name} follows the route", _shown(world, layer, pin))


def _look(adapter: Layer, place: Place, glanced: Collection[Place]) -> Callable[[], list[str]]:
    if place in glanced and isinstance(adapter, Glancing):
        return partial(adapter.glance, place[1])
    return partial(adapter.problems, place[1])


def _shown(world: World, layer: str, pin: Pin) -> Callable[[], list[str]]:
    def look() -> list[str]:
        if layer not in world.layers:
            return ["Its layer has no adapter here."]
        shows = world.layers[layer].live(pin.name)
        if shows is not None and shows.digest == pin.digest:
            return []
        return [f"It shows {shows or 'nothing'}; the live release pins {pin}."]

    return look
