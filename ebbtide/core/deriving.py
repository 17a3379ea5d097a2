"""Contents that are written from other layers' pins, such as manifests that name versions."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ebbtide.core.ports import Layer
from ebbtide.core.release import Pin, Release


@runtime_checkable
class Deriving(Protocol):
    """A layer that writes versions of the release into contents of its own."""

    def derive(self, pin: Pin, release: Release) -> Pin:
        """The pin with what it names taken from this release. The same pin where it names nothing.

        Raises `BadConfiguration` where it names what the release has not.
        """


def with_derived(layers: Mapping[str, Layer], release: Release) -> Release:
    """The release with every derived content written from its own pins."""
    whole = release
    for name, adapter in layers.items():
        if isinstance(adapter, Deriving) and release.pins(name):
            pins = (adapter.derive(pin, release) for pin in release.pins(name))
            whole = whole.with_pins(name, *pins)
    return whole
