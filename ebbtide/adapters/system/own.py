"""Layers and gates of the user's own: found by name among the installed packages.

A package registers them in its metadata, under `ebbtide.layers` and
`ebbtide.gates`; nothing is imported before a system file names it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ebbtide.core.errors import BadConfiguration
from ebbtide.core.gates import Finding
from ebbtide.core.ports import Layer, World
from ebbtide.core.saga import Move

LAYERS, GATES = "ebbtide.layers", "ebbtide.gates"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a layer of the user's own works."""

    system: str
    layer: str
    """The key below `layers:` that it was registered under."""
    state: Path
    """A folder of this layer's own, for contents that it keeps. May not be there yet."""
    at: Callable[[str], Path]
    """Makes a path of the system file absolute; a link at its end is not followed."""


def check_layers(named: Collection[str], built_in: Collection[str]) -> None:
    """Refuse names of layers that nobody has registered. Raises `BadConfiguration`."""
    if not named:
        return
    known = _names(LAYERS)
    for name in named:
        if name not in known:
            raise BadConfiguration(
                f"layers.{name}: no such layer. Built in: {', '.join(built_in)}. "
                f"Registered: {', '.join(known) or 'none'}.",
                remedy=_how(LAYERS, name, "my_package:MyLayer"),
            )


def own_layer(things: Mapping[str, Mapping[str, Any]], site: Site) -> Layer:
    """The adapter that is registered for a layer. Raises `BadConfiguration`.

    It is made with its things and its site. Where it has an attribute `options`,
    a pydantic model, each thing is validated by that first.
    """
    make = _loaded(LAYERS, site.layer, "my_package:MyLayer")
    options = getattr(make, "options", None)
    given = {
        name: _validated(options, thing, f"layers.{site.layer}.{name}") if options else thing
        for name, thing in things.items()
    }
    try:
        layer: Layer = make(given, site)
    except (TypeError, ValueError, KeyError) as fault:
        raise BadConfiguration(f"layers.{site.layer}: {fault!r}") from fault
    return layer


@dataclass(frozen=True, slots=True)
class OwnGate:
    """A gate that is looked up when it is asked: a missing one stops a saga, not `status`."""

    name: str

    def __call__(self, world: World, move: Move) -> Finding:
        found: Finding = _loaded(GATES, self.name, "my_package:my_gate")(world, move)
        return found


def _validated(options: Any, thing: Mapping[str, Any], place: str) -> Any:
    from pydantic import ValidationError

    try:
        return options.model_validate(thing)
    except ValidationError as fault:
        faults = "\n".join(
            f"  {'.'.join([place, *map(str, error['loc'])])}: {error['msg']}"
            for error in fault.errors()
        )
        raise BadConfiguration(f"The layer's adapter refuses its options:\n{faults}") from fault


def _loaded(group: str, name: str, example: str) -> Any:
    found = {(point.value, point.dist and point.dist.name): point for point in _points(group, name)}
    if not found:
        raise BadConfiguration(
            f"`{name}` is not registered under `{group}`. "
            f"Registered: {', '.join(_names(group)) or 'none'}.",
            remedy=_how(group, name, example),
        )
    if len(found) > 1:
        raise BadConfiguration(
            f"`{name}` is registered under `{group}` more than once: "
            f"{', '.join(sorted(f'{value} ({package})' for value, package in found))}.",
            remedy="Uninstall all but one.",
        )
    (point,) = found.values()
    try:
        return point.load()
    except Exception as fault:
        raise BadConfiguration(
            f"`{name}` of `{group}` cannot be loaded from {point.value}: {fault!r}",
            remedy="Mend or reinstall the package that registers it.",
        ) from fault


def _points(group: str, name: str) -> Collection[EntryPoint]:
    return tuple(entry_points(group=group, name=name))


def _names(group: str) -> list[str]:
    return sorted(entry_points(group=group).names)


def _how(group: str, name: str, example: str) -> str:
    return (
        f"Correct the name, or install the package that has, in its pyproject.toml, "
        f'[project.entry-points."{group}"] {name} = "{example}".'
    )
