"""Is a release still there, pin by pin, with the bytes that were recorded? Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass

from ebbtide.core.debts import Later
from ebbtide.core.errors import Unreachable
from ebbtide.core.ports import Cold, Layer
from ebbtide.core.release import Pin, Release


@dataclass(frozen=True, slots=True)
class Looked:
    """What one pin was found to be."""

    layer: str
    pin: Pin
    problems: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        return [f"{self.layer} {self.pin.name}: {problem}" for problem in self.problems]


def look(layers: Mapping[str, Layer], release: Release) -> list[Looked]:
    """Look at every pin that is made. Raises `Unreachable` where a store is away.

    Where ebbtide has kept the content itself, that is looked at in place of a
    store that is away.

    A layer that has no adapter here is a problem of its pins: nobody looked.
    """
    return [
        Looked(layer, pin, _problems(layers.get(layer), pin))
        for layer, pins in release.layers.items()
        for pin in pins
        if not pin.unmade
    ]


def problems(layers: Mapping[str, Layer], release: Release) -> list[str]:
    """Why the release could not be restored, a line for each reason; empty: it could."""
    return [line for looked in look(layers, release) for line in looked.lines]


def is_cold(layers: Mapping[str, Layer], release: Release) -> bool:
    """Whether looking in this process would first have to load a store's client, in seconds."""
    there = [layers[layer] for layer in release.layers if layer in layers]
    return any(isinstance(layer, Cold) and layer.is_cold for layer in there)


def _problems(layer: Layer | None, pin: Pin) -> tuple[str, ...]:
    if layer is None:
        return ("its layer has no adapter here",)
    try:
        return tuple(layer.problems(pin))
    except Unreachable:
        if not isinstance(layer, Later):
            raise
        return tuple(layer.kept_problems(pin))
