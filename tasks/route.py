"""The one authoritative pointer: which release serves, and which is held warm."""

from typing import Any

from ebbtide.core.crashpoints import reach
from ebbtide.core.errors import Fenced
from ebbtide.core.gates import Finding, failed, inconclusive, passed
from ebbtide.core.journal import Replica, Route
from ebbtide.core.lease import Lease
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import TEXT, Memory, aside, compensatable
from tasks.waiting import until

RoutePoint = dict[str, Any]
"""What the route was: `release` (empty: nothing served) and `epoch`."""

ROUTE: Memory[RoutePoint] = Memory(dump=dict, load=dict)


def candidate(world: World, _move: Move) -> str:
    """Which release the replicas are asked to hold warm now."""
    route = world.journal.route(world.system)
    return route.candidate if route else ""


@compensatable(remember=candidate, memory=TEXT)
def warm_target(world: World, move: Move, was: str) -> None:
    """Ask every serving replica to load the target and hold it warm."""
    world.journal.set_candidate(lease(world, move), move.target.id, only_from=(was, move.target.id))


def target_is_warm(world: World, move: Move) -> Finding:
    """Every live replica holds the target in memory."""
    policy = world.policy

    def look() -> Finding | None:
        replicas = world.serving.replicas()
        refusals = [
            f"{replica.name}: {replica.refused[move.target.id]}"
            for replica in replicas
            if move.target.id in replica.refused
        ]
        if refusals:
            return failed(f"A replica cannot load {move.target.short}: {'; '.join(refusals)}")
        if len(replicas) < policy.replicas:
            return None
        cold = [replica.name for replica in replicas if move.target.id not in replica.loaded]
        return None if cold else passed(f"held warm by {_names(replicas)}")

    return until(look, policy.warm_within) or _too_few_or_late(
        world,
        f"Not every replica loaded {move.target.short} in {policy.warm_within:g} s.",
    )


def return_candidate(world: World, move: Move, was: str) -> None:
    """Ask the replicas to hold what they held before."""
    world.journal.set_candidate(lease(world, move), was, only_from=(move.target.id, was))


def standing(world: World, _move: Move) -> RoutePoint:
    """Where the route is now."""
    route = world.journal.route(world.system)
    return {
        "release": route.release if route else "",
        "epoch": route.epoch if route else 0,
    }


@compensatable(remember=standing, memory=ROUTE)
def switch(world: World, move: Move, was: RoutePoint) -> None:
    """Compare-and-set the route to the target, with a new epoch."""
    world.journal.switch_route(
        lease(world, move),
        expected=was["epoch"],
        to=move.target.id,
        token=token(move.target.id, was["epoch"] + 1, move.saga),
    )


def replicas_agree(world: World, move: Move) -> Finding:
    """Every live replica serves the target under the new epoch."""
    route = world.journal.route(world.system)
    if route is None or route.release != move.target.id:
        return failed(f"The route is not at {move.target.short}.")
    within = world.policy.switch_within

    def look() -> Finding | None:
        replicas = world.serving.replicas()
        if len(replicas) < world.policy.replicas:
            return None
        if any(not _serves(replica, route) for replica in replicas):
            return None
        return passed(f"epoch {route.epoch} is served by {_names(replicas)}", epoch=route.epoch)

    return until(look, within) or _too_few_or_late(
        world, f"Not every replica served epoch {route.epoch} in {within:g} s."
    )


def return_route(world: World, move: Move, was: RoutePoint) -> None:
    """Switch the route back, as a new epoch; nothing where it was never switched."""
    route = world.journal.route(world.system)
    if route is None or (route.release, route.epoch) == (was["release"], was["epoch"]):
        return
    world.journal.return_route(
        lease(world, move),
        expected=was["epoch"] + 1,
        to=was["release"],
        token=token(was["release"], was["epoch"] + 2, move.saga),
    )


@aside
def keep(world: World, move: Move, _was: None) -> None:
    """Record that the epoch was proved, and stop asking for a candidate."""
    world.journal.mark_proved(lease(world, move), move.epoch + 1)
    reach("route.keep/proved")
    world.journal.set_candidate(lease(world, move), "", only_from=(move.target.id, ""))


def is_kept(world: World, move: Move) -> Finding:
    """The tenure that began with this saga counts as proved."""
    newest = world.journal.tenures(world.system, limit=1)
    if newest and newest[0].proved and newest[0].release == move.target.id:
        return passed(f"epoch {newest[0].epoch} is proved")
    return failed(f"The tenure of {move.target.short} is not recorded as proved.")


def token(release: str, epoch: int, saga: str) -> str:
    """The cache token of an epoch. Never used twice, also after a restored backup."""
    return f"{release[:12]}-{epoch}-{saga}"


def _serves(replica: Replica, route: Route) -> bool:
    return (replica.release, replica.epoch) == (route.release, route.epoch)


def too_few(world: World, replicas: list[Replica]) -> Finding | None:
    """That fewer replicas are alive than the system demands; None where enough are."""
    if len(replicas) >= world.policy.replicas:
        return None
    return inconclusive(
        f"{world.policy.replicas} live replicas are expected; there are: {_names(replicas)}.",
        remedy=f"Start one: ebbtide serve {world.system}.",
    )


def _too_few_or_late(world: World, why: str) -> Finding:
    replicas = world.serving.replicas()
    return too_few(world, replicas) or failed(f"{why} Live: {_names(replicas)}.")


def lease(world: World, move: Move) -> Lease:
    """The lease that this saga's writes are made under. Raises `Fenced` without one."""
    if world.lease is None or world.lease.saga != move.saga:
        raise Fenced(f"This process holds no lease for saga {move.saga}.")
    return world.lease


def _names(replicas: list[Replica]) -> str:
    return ", ".join(replica.name for replica in replicas) or "none"
