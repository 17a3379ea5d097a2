"""One harness for every step of the table: do, undo, do, undo, the same world."""

from collections.abc import Mapping
from typing import Any

from ebbtide.core.fences import Holding
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import Step


def standing(world: World) -> Mapping[str, Any]:
    """Where a system stands, as its stores tell it: what a round trip must give back.

    The epoch is left out: it only ever grows.
    """
    route = world.journal.route(world.system)
    layers = {
        f"{layer}/{name}": pin.digest if (pin := adapter.live(name)) else None
        for layer, adapter in world.layers.items()
        for name in adapter.names
    }
    return {
        "route": route.release if route else "",
        "candidate": route.candidate if route else "",
        **layers,
        **_held(world),
        "fences": [fence.table for fence in world.journal.fences(world.system)],
        "outputs": [
            (part.output, part.partition, part.run, part.state, part.marked)
            for part in world.journal.parts(world.system)
        ],
        "effects held": world.journal.effects_held(world.system) is not None,
        "effects": [(each.key, each.state) for each in world.journal.effects(world.system)],
    }


def round_trip(world: World, row: Step, move: Move) -> None:
    """Prove a step's contract on a world whose lease is the move's.

    Doing it twice is doing it once; the undo gives back what was there, also
    when nothing was done, and also when it runs twice. Raises AssertionError.
    """
    assert row.do is not None, f"{row.name} is only a gate"
    before = standing(world)
    was = row.do.memory.load(row.do.memory.dump(row.do.remember(world, move)))
    row.undo(world, move, was)
    _same(row, "undone before it was done", before, standing(world))
    for turn in ("first", "second"):
        was = row.do.memory.load(row.do.memory.dump(row.do.remember(world, move)))
        row.do.do(world, move, was)
        after = standing(world)
        row.do.do(world, move, was)
        _same(row, f"done twice, {turn} turn", after, standing(world))
        finding = row.prove(world, move)
        assert finding.passed, f"{row.name}, {turn} turn: {finding.why}"
        if not row.compensates:
            continue
        row.undo(world, move, was)
        _same(row, f"undone, {turn} turn", before, standing(world))
        row.undo(world, move, was)
        _same(row, f"undone twice, {turn} turn", before, standing(world))


def _held(world: World) -> Mapping[str, bool]:
    """Whose writers are held back, as the tables themselves tell it."""
    tables = world.layers.get("data")
    if not isinstance(tables, Holding):
        return {}
    return {f"fence/{name}": bool(tables.held_by(name, world.system)) for name in tables.names}


def _same(row: Step, when: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    differing = {
        key: (expected[key], found[key]) for key in expected if expected[key] != found[key]
    }
    assert not differing, f"{row.name}, {when}: {differing}"
