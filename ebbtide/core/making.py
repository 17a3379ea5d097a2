"""Contents that are made from others: features by their pipeline, models by training.

A recipe is a pin without a digest; a release with one in it waits. What was
once made of a recipe is found again by it, so making is safe to repeat, and
whoever takes a half-made release over looks before making anything.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from ebbtide.core.deriving import Deriving, with_derived
from ebbtide.core.errors import Refused
from ebbtide.core.ports import Layer
from ebbtide.core.release import Pin, Release

Tell = Callable[[str], None]
"""Told a line of progress now and then, for people."""


@runtime_checkable
class Making(Protocol):
    """A layer whose contents can be made again from other pins of a release."""

    def recipe(self, name: str, within: Release, ask: str = "") -> Pin:
        """What the thing is to be made of, in a release with the other pins of `within`.

        `ask`: a commit of the pipeline; empty: that of the thing's pin in
        `within`. The pin of `within` itself where making it again could only
        give the same. Raises `FloatingReference`, `Unknown`, `BadConfiguration`.
        """

    def found(self, recipe: Pin, within: Release) -> Pin | None:
        """What was made of the recipe before, whole; None where it has to be made. Reads only."""

    def make(self, recipe: Pin, within: Release, tell: Tell) -> Pin:
        """Make it aside, which may take hours; nothing live is touched. Idempotent.

        Raises `GateNotPassed` where making it fails, with what it said.
        """


def as_far_as_made(layers: Mapping[str, Layer], release: Release) -> Release:
    """The release with every recipe replaced by what has been made of it, where it has.

    Features before models, as the layers' order has it: a model is trained on
    features. Once nothing is left to make, also what is derived from the pins.
    """
    if not release.unmade:
        return release
    for layer, recipe in release.unmade:
        made = maker(layers, layer).found(recipe, release)
        if made is not None:
            release = release.with_pins(layer, made)
    return release if release.unmade else with_derived(layers, release)


def maker(layers: Mapping[str, Layer], layer: str) -> Making:
    """The adapter that makes a layer's contents. Raises `Refused` where it cannot."""
    adapter = layers.get(layer)
    if not isinstance(adapter, Making):
        raise Refused(f"Nothing of layer `{layer}` can be made again.")
    return adapter


def derived(layers: Mapping[str, Layer], release: Release) -> frozenset[str]:
    """The layers that will change with what has yet to be made, though they do not show it."""
    if not release.unmade:
        return frozenset()
    return frozenset(name for name in release.layers if isinstance(layers.get(name), Deriving))
