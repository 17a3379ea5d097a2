"""Owing and paying: what may follow the route later, and letting it follow."""

from ebbtide.core.debts import Debt, Later
from ebbtide.core.errors import Conflict, EbbtideError, SagaOpen, Unreachable
from ebbtide.core.outputs import Part
from ebbtide.core.ports import World
from ebbtide.core.release import Pin


def may_follow_later(world: World, layer: str, pin: Pin | None) -> bool:
    """Whether the route may move though the layer's store is away."""
    adapter = world.layers[layer]
    return isinstance(adapter, Later) and pin is not None and not adapter.kept_problems(pin)


def is_owed(world: World, layer: str, name: str) -> bool:
    return any(
        (debt.layer, debt.name) == (layer, name) for debt in world.journal.debts(world.system)
    )


def marks_owed(world: World) -> dict[str, list[Part]]:
    """Recalled parts whose rows stand unmarked in their tables, by output.

    Not of an output that the system file names no more: nobody knows its table.
    """
    told = world.outputs.told if world.outputs else {}
    found: dict[str, list[Part]] = {}
    for part in world.journal.unmarked(world.system):
        # What was begun and never written has no rows, and owes nothing unless they land.
        if part.output in told and part.written_at is not None:
            found.setdefault(part.output, []).append(part)
    return found


def owed(world: World) -> list[str]:
    """All that is owed, in a sentence for each."""
    projections = [
        f"{debt.layer} {debt.name} has yet to follow: {debt.why}"
        for debt in world.journal.debts(world.system)
    ]
    marks = [
        f"output {name}: {len(parts)} recalled parts are not marked in its table"
        for name, parts in marks_owed(world).items()
    ]
    return projections + marks


def pay_all(world: World, *, by: str) -> tuple[list[Debt], list[str]]:
    """Let every owed projection follow the route: what was paid, and why the rest was not."""
    paid, left = [], []
    for debt in world.journal.debts(world.system):
        try:
            _pay(world, debt, by)
            paid.append(debt)
        except (Unreachable, SagaOpen, Conflict) as fault:
            left.append(f"{debt.layer} {debt.name}: {fault}")
        except EbbtideError as fault:
            left.append(f"{debt.layer} {debt.name} needs a person: {fault}")
    return paid, left


def _pay(world: World, debt: Debt, by: str) -> None:
    """Raises `Conflict` where it shows what no release of the system has: somebody else's."""
    route = world.journal.route(world.system)
    pin = None
    if route and route.release:
        pin = world.journal.release(route.release).pin(debt.layer, debt.name)
    layer = world.layers[debt.layer]
    shows = layer.live(debt.name)
    if shows is not None and not _ours(world, debt, shows):
        raise Conflict(
            f"{debt.layer} {debt.name} shows {shows}, which no release of {world.system} pins.",
            remedy="Find out who moved it, and move it by hand.",
        )
    layer.move(debt.name, pin, only_from=(shows,), note=f"{debt.saga}/owed")
    epoch = route.epoch if route else 0
    world.journal.pay(world.system, debt.layer, debt.name, epoch=epoch, by=by)


def _ours(world: World, debt: Debt, shows: Pin) -> bool:
    pins = (
        release.pin(debt.layer, debt.name) for release, _ in world.journal.releases(world.system)
    )
    return any(pin is not None and pin.digest == shows.digest for pin in pins)
