"""Recording a release: resolve, check, question, write down. Nothing live changes."""

from collections.abc import Mapping

from ebbtide.core.compatibility import layers_fit
from ebbtide.core.deriving import with_derived
from ebbtide.core.errors import NotRestorable, Unknown
from ebbtide.core.gates import Finding
from ebbtide.core.keeping import (
    keep,
)
from ebbtide.core.lineage import Descended
from ebbtide.core.ports import Marking, World
from ebbtide.core.release import Evidence, Golden, Release

Asks = Mapping[str, Mapping[str, str]]
"""Versions as a person writes them, by layer and thing; what is left out is pinned as it is now."""


def resolve(world: World, asks: Asks) -> Release:
    """What is asked for, pinned in every layer. Raises `FloatingReference`, `Unknown`."""
    for layer, things in asks.items():
        names = world.layers[layer].names if layer in world.layers else ()
        strange = [name for name in things if name not in names]
        if strange or layer not in world.layers:
            raise Unknown(
                f"{world.system} has no {layer} {', '.join(strange)}.".replace("  ", " "),
                remedy=f"It has {_things(world)}.",
            )
    pinned = {
        name: tuple(layer.pin(thing, asks.get(name, {}).get(thing, "")) for thing in layer.names)
        for name, layer in world.layers.items()
        if layer.names
    }
    return with_derived(world.layers, Release(world.system, pinned))


def record(
    world: World,
    release: Release,
    *,
    by: str,
    note: str = "",
    refreshes: str = "",
    findings: Mapping[str, Finding] | None = None,
) -> Evidence:
    """Write a release down with its evidence and its answers to the golden set.

    Recording the same content again is allowed and changes nothing. `refreshes`: the
    release that it is a newer materialisation of, made aside, with what its gates
    found. Raises `NotRestorable` where a pin cannot be had whole even now.
    """
    for layer, pins in release.layers.items():
        for pin in pins:
            world.layers[layer].prepare(pin)
    problems = [
        f"{layer} {pin.name}: {problem}"
        for layer, pins in release.layers.items()
        for pin in pins
        for problem in world.layers[layer].problems(pin)
    ]
    if problems:
        raise NotRestorable(" ".join(problems), remedy="Mend that, then record the release again.")
    golden = _golden(world, release)
    evidence = Evidence(
        by=by,
        at=world.journal.now(),
        note=note,
        findings={
            "layers_fit": _shown(layers_fit(release, _proved(world))),
            **{gate: _shown(finding) for gate, finding in (findings or {}).items()},
        },
        golden=golden.digest if golden else "",
        refreshes=refreshes,
        composed=bool(refreshes),
    )
    world.journal.add_release(release, evidence, golden)
    keep(world, release)  # again: until now nobody could know that it is needed
    _mark(world, release)
    return evidence


def _mark(world: World, release: Release) -> None:
    for layer, pins in release.layers.items():
        adapter = world.layers[layer]
        if isinstance(adapter, Marking):
            for pin in pins:
                adapter.tag_release(pin, release.id)
        if isinstance(adapter, Descended):
            for pin in pins:
                if why := adapter.tag_lineage(pin, release):
                    world.tell(f"{layer} {pin.name} {pin} keeps no lineage: {why}")


def _golden(world: World, release: Release) -> Golden | None:
    if not world.questions:
        return None
    return Golden(world.questions, world.scorer.answers(release, world.questions))


def _proved(world: World) -> list[Release]:
    proved = set(world.journal.proved(world.system))
    return [release for release, _ in world.journal.releases(world.system) if release.id in proved]


def _shown(finding: Finding) -> Mapping[str, str]:
    return {"verdict": finding.verdict.value, "why": finding.why}


def _things(world: World) -> str:
    return ", ".join(
        f"{name} {thing}" for name, layer in world.layers.items() for thing in layer.names
    )
