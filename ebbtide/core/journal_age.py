"""Whether the journal is as new as what it vouches for: an old backup may have been restored.

Whoever serves and the cache were told epochs of the route. Where one of them
knows a later epoch than the journal does, or a saga that it does not know,
the journal has lost what happened since, and nothing may be decided by it.
"""

import re
from collections.abc import Iterator

from ebbtide.core.errors import Tampered, Unknown, Unreachable
from ebbtide.core.ports import World

_TOKEN = re.compile(r"[0-9a-f]{12}-(?P<epoch>\d+)-(?P<saga>[0-9a-f]{16})")


def require_newest(world: World) -> None:
    """Raises `Tampered` where something has seen more than the journal tells.

    A journal without a route is a new one: it vouches for nothing yet.
    """
    found = next(signs(world), "")
    if found:
        raise Tampered(
            f"The journal of {world.system} is older than what it vouches for: {found}"
            " An old backup was restored, or another journal is meant. Nothing was touched.",
            remedy="Restore its newest backup. If this one is the newest that there is: stop what"
            " serves, remove the cache's folder (in Redis: its keys), start it again, and compare"
            " the stores with `ebbtide doctor`.",
        )


def signs(world: World) -> Iterator[str]:
    """What has seen a later epoch, or a saga that the journal does not know."""
    replicas, token = world.serving.replicas(), _token(world)
    # Read last: what follows the route is never ahead of it.
    route = world.journal.route(world.system)
    if route is None:
        return
    for replica in replicas:
        if replica.epoch > route.epoch:
            yield (
                f"replica {replica.name} serves epoch {replica.epoch},"
                f" the route is at {route.epoch}."
            )
    if token is not None and int(token["epoch"]) > route.epoch:
        yield f"the cache is at epoch {token['epoch']}, the route at {route.epoch}."
    elif token is not None and not _known(world, token["saga"]):
        yield f"the cache was moved by saga {token['saga']}, which the journal does not know."


def _token(world: World) -> re.Match[str] | None:
    """None also where the cache is away: a rollback goes without it."""
    try:
        return _TOKEN.fullmatch(world.cache.epoch())
    except Unreachable:
        return None


def _known(world: World, saga: str) -> bool:
    try:
        world.journal.saga(saga)
    except Unknown:
        return False
    return True
