"""The cache's epoch: a new token leaves every cached prediction behind at once.

The gateway's keys begin with the route's token, so the flip of the route is
the flush. What follows here is the token for outside readers of the cache. A
cache that is away never stops a rollback: nothing can be served from it that
belongs to a dead epoch.
"""

import logging

from ebbtide.core.errors import Unreachable
from ebbtide.core.fencing import still_ours
from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from ebbtide.core.step import TEXT, aside, compensatable
from tasks.route import token

_log = logging.getLogger(__name__)
_RECENT = 10
"""Newest tenures among which is the one that the saga ended."""
_AWAY = "the cache is away; the outside token is owed, and no key of a dead epoch is read"


def epoch(world: World, _move: Move) -> str:
    """The token that outside readers go by now."""
    try:
        return world.cache.epoch()
    except Unreachable:
        return ""


@compensatable(remember=epoch, memory=TEXT)
def leave_epoch(world: World, move: Move, _was: str) -> None:
    """Leave the epoch: while the route moves, outside readers share nothing."""
    _publish(world, f"{move.saga}-between")


def epoch_is_left(world: World, move: Move) -> Finding:
    """Outside readers go by no release's token."""
    return _token_is(world, f"{move.saga}-between")


def rejoin_epoch(world: World, _move: Move, _was: str) -> None:
    """Give outside readers the returned route's token."""
    _publish(world, _route_token(world))


@compensatable(remember=epoch, memory=TEXT)
def start_epoch(world: World, _move: Move, _was: str) -> None:
    """Give outside readers the route's new token."""
    _publish(world, _route_token(world))


def epoch_is_the_routes(world: World, _move: Move) -> Finding:
    """The cache's token is the route's."""
    return _token_is(world, _route_token(world))


def leave_epoch_again(world: World, move: Move, _was: str) -> None:
    """Leave the epoch once more, under a token that was never used."""
    _publish(world, f"{move.saga}-back")


@aside
def drop_dead_entries(world: World, move: Move, _was: None) -> None:
    """Delete the cached predictions of the epoch that was left."""
    if move.source is None:
        return
    dead = [
        token(tenure.release, tenure.epoch, tenure.saga)
        for tenure in world.journal.tenures(world.system, limit=_RECENT)
        if tenure.epoch == move.epoch
    ]
    try:
        for each in dead:
            world.cache.drop_epoch(each)
    except Unreachable as fault:
        _log.warning("%s (%s)", _AWAY, fault.message)


def _route_token(world: World) -> str:
    route = world.journal.route(world.system)
    return route.token if route else ""


def _publish(world: World, value: str) -> None:
    still_ours()
    try:
        world.cache.start_epoch(value)
    except Unreachable as fault:
        _log.warning("%s (%s)", _AWAY, fault.message)


def _token_is(world: World, expected: str) -> Finding:
    try:
        found = world.cache.epoch()
    except Unreachable as fault:
        return passed(f"{_AWAY} ({fault.message})", away=True)
    if found == expected:
        return passed(f"the cache is at {found}")
    return failed(f"The cache is at {found or 'no token'}, not at {expected}.")


def dead_entries_are_gone(_world: World, _move: Move) -> Finding:
    """Nothing reads them: their keys begin with a token that is never used again."""
    return passed("no key of a dead epoch is read")
