"""A release: one immutable version for every layer of a system."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ebbtide.core.digests import digest
from ebbtide.core.errors import Tampered

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Pin:
    """One thing of a layer, held to one immutable content.

    `digest` is the sha256 of the content and what two pins are compared by;
    `at` is where the layer's adapter finds it again (a registry version, a
    commit, a table version) and what the gates want to know of it.
    """

    name: str
    digest: str
    at: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", MappingProxyType(dict(self.at)))

    def __hash__(self) -> int:
        return hash((self.name, self.digest, tuple(sorted(self.at.items()))))

    @property
    def unmade(self) -> bool:
        """True for a recipe: `at` says what the content is made of, and it is not made yet."""
        return not self.digest

    @property
    def lineage(self) -> bool:
        """True for what a release was made from and does not read: a training table."""
        return self.at.get("role") == "training"

    def __str__(self) -> str:
        where = self.at.get("version") or self.at.get("commit", "")[:10]
        if self.unmade:
            return f"to be made from {where}" if where else "to be made"
        return f"{where} ({self.digest[:10]})" if where else self.digest[:10]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "digest": self.digest, "at": dict(self.at)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Pin":
        return cls(data["name"], data["digest"], data["at"])


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs between two releases. None: not there at all."""

    layer: str
    name: str
    before: Pin | None
    after: Pin | None

    def to_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "name": self.name,
            "before": self.before.to_json() if self.before else None,
            "after": self.after.to_json() if self.after else None,
        }

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'nothing'} → {self.after or 'nothing'}"


@dataclass(frozen=True, slots=True)
class Release:
    """The manifest: what a system is made of, layer by layer.

    The layers are whatever the system file names; a release neither knows nor
    limits them. Its id is the sha256 of the canonical manifest, so the same
    content is the same release, whoever records it and when.
    """

    system: str
    layers: Mapping[str, tuple[Pin, ...]]

    def __post_init__(self) -> None:
        ordered = {
            layer: tuple(sorted(self.layers[layer], key=lambda pin: pin.name))
            for layer in sorted(self.layers)
        }
        object.__setattr__(self, "layers", MappingProxyType(ordered))

    @property
    def id(self) -> str:
        return digest(self.to_json())

    @property
    def short(self) -> str:
        return self.id[:12]

    @property
    def unmade(self) -> tuple[tuple[str, Pin], ...]:
        """What has yet to be made, with its layer: no such release can be recorded or served."""
        return tuple(
            (layer, pin) for layer, pins in self.layers.items() for pin in pins if pin.unmade
        )

    def pins(self, layer: str) -> tuple[Pin, ...]:
        return self.layers.get(layer, ())

    def pin(self, layer: str, name: str) -> Pin | None:
        return next((pin for pin in self.pins(layer) if pin.name == name), None)

    def with_pins(self, layer: str, *pins: Pin) -> "Release":
        """This release with some things of one layer replaced: a composed release."""
        replaced = {pin.name: pin for pin in self.pins(layer)} | {pin.name: pin for pin in pins}
        return Release(self.system, {**self.layers, layer: tuple(replaced.values())})

    def to_json(self) -> dict[str, Any]:
        layers = {layer: [pin.to_json() for pin in pins] for layer, pins in self.layers.items()}
        return {"format": _FORMAT, "system": self.system, "layers": layers}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Release":
        if data.get("format") != _FORMAT:
            raise Tampered(f"A manifest of format {data.get('format')!r} cannot be read.")
        layers = {
            layer: tuple(Pin.from_json(pin) for pin in pins)
            for layer, pins in data["layers"].items()
        }
        return cls(data["system"], layers)


def diff(before: Release | None, after: Release) -> tuple[Change, ...]:
    """What changed from one release to another, layer by layer, in a fixed order."""
    layers = sorted({*(before.layers if before else ()), *after.layers})
    changes = []
    for layer in layers:
        old = {pin.name: pin for pin in before.pins(layer)} if before else {}
        new = {pin.name: pin for pin in after.pins(layer)}
        changes += [
            Change(layer, name, old.get(name), new.get(name))
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]
    return tuple(changes)


@dataclass(frozen=True, slots=True)
class Golden:
    """The behavioural snapshot: fixed questions, and what the release answered.

    `questions` are rows as a client would send them, `answers` the predictions,
    one for each row, in the same order.
    """

    questions: tuple[Any, ...]
    answers: tuple[Any, ...]

    @property
    def digest(self) -> str:
        return digest({"questions": self.questions, "answers": self.answers})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a release beside its content: who, when, and what was measured."""

    by: str
    at: float
    """Seconds since the epoch, UTC, by the journal's clock."""
    composed: bool = False
    """True where no such combination was deployed: a level put it together."""
    note: str = ""
    findings: Mapping[str, Any] = field(default_factory=dict)
    """Gate results by gate."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    golden: str = ""
    """Digest of the behavioural snapshot, empty where there is none."""
    refreshes: str = ""
    """The release that this is a newer materialisation of, empty where it is none."""
