"""Several adapters as one layer: each thing has its own, as its `kind` says."""

from collections.abc import Collection, Mapping
from pathlib import Path

from ebbtide.adapters.loading.release import Foldered
from ebbtide.core.deriving import Deriving
from ebbtide.core.errors import NotRestorable, Unknown
from ebbtide.core.ports import Layer
from ebbtide.core.release import Pin, Release


class Mixed:
    """A layer that hands each of its things to the adapter that has it."""

    def __init__(self, kind: str, adapters: Collection[Layer], order: Collection[str]) -> None:
        """`order` are the things as the system file names them."""
        self._kind = kind
        self._of: Mapping[str, Layer] = {
            name: adapter for adapter in adapters for name in adapter.names
        }
        self.names = tuple(order)

    def pin(self, name: str, ask: str = "") -> Pin:
        return self._adapter(name).pin(name, ask)

    def problems(self, pin: Pin) -> list[str]:
        return self._adapter(pin.name).problems(pin)

    def prepare(self, pin: Pin) -> None:
        self._adapter(pin.name).prepare(pin)

    def live(self, name: str) -> Pin | None:
        return self._adapter(name).live(name)

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        self._adapter(name).move(name, to, only_from=only_from, note=note)

    def path(self, pin: Pin) -> Path:
        """The pin's content as a folder. Raises `NotRestorable` where it is none."""
        adapter = self._adapter(pin.name)
        if not isinstance(adapter, Foldered):
            raise NotRestorable(f"{self._kind} `{pin.name}` is no folder.")
        return adapter.path(pin)

    def derive(self, pin: Pin, release: Release) -> Pin:
        adapter = self._adapter(pin.name)
        return adapter.derive(pin, release) if isinstance(adapter, Deriving) else pin

    def _adapter(self, name: str) -> Layer:
        if name not in self._of:
            known = ", ".join(self.names)
            raise Unknown(f"No {self._kind} `{name}`.", remedy=f"Known here: {known}.")
        return self._of[name]
