"""Many order at once: one saga, and everybody else is refused without having touched anything."""

import json
import multiprocessing
import os
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path

from ebbtide.core.errors import EbbtideError
from ebbtide.core.planner import Order
from ebbtide.core.saga import Level
from tests.crash.children import PATIENCE, Child, forked, into
from tests.crash.journeys import SYSTEM
from tests.crash.production import Production

_AT_ONCE = 20
_CHANGED, _OPEN = 3, 4
"""Exit codes of who is refused: the system has moved since the plan, or a saga is open."""


def order_at_once(systems: Path, out: Path, to: str, points: str, together: Barrier) -> None:
    """Plan, wait until everybody has planned, then order, as the command line does."""
    into(out)
    from ebbtide.bootstrap import open_world
    from flows.order import carry_out, plan

    world = open_world(SYSTEM, systems)
    by = f"process {os.getpid()}"
    order = Order(Level.SYSTEM, by=by, to=to, accept_unproved=True)
    planned = plan(world, order)
    os.environ["EBBTIDE_POINTS"] = points
    together.wait(PATIENCE)
    try:
        print(carry_out(world, order, shown=planned.plan.digest).state.value)
    except EbbtideError as fault:
        print(fault)
        raise SystemExit(fault.exit_code) from None


def test_of_twenty_orders_to_different_targets_one_wins(production: Production) -> None:
    production.go("v3")
    before, folder = set(production.sql("SELECT id FROM sagas")), production.folder
    together = multiprocessing.get_context("forkserver").Barrier(_AT_ONCE)
    running: list[Child] = []
    for n in range(_AT_ONCE):
        target = production.release(("v1", "v2", "twin")[n % 3]).id
        out, points = folder / f"at-once-{n}.out", folder / f"at-once-{n}.points"
        points.touch()
        systems = production.system.root / "configs/production"
        running.append(forked(order_at_once, systems, out, target, str(points), together))
    ended = [child.ended() for child in running]
    codes = Counter(each.code for each in ended)
    assert codes[0] == 1 and codes[_CHANGED] + codes[_OPEN] == _AT_ONCE - 1, ended
    for n, each in enumerate(ended):
        reached = (folder / f"at-once-{n}.points").read_text()
        assert ("saga/opened" in reached) == (each.code == 0), "a loser got to its first step"
    (winner,) = set(production.sql("SELECT id FROM sagas")) - before
    assert production.newest() == winner[0]
    target = production.sql(f"SELECT target FROM sagas WHERE id = '{winner[0]}'")[0][0]
    name = next(name for name in ("v1", "v2", "twin") if production.release(name).id == target)
    source, wanted = production.shows("v3"), production.shows(name)
    assert production.oracle.judge(winner[0], source, wanted) == {}
    production.live = name


def test_the_same_order_given_twice_at_once_takes_effect_once(production: Production) -> None:
    journey = production.journeys["system"]
    production.begin(journey)
    twice = [
        production.command(*journey.words, "--yes", "--json", "--key", "alert-7") for _ in range(2)
    ]
    told = [_told(child) for child in twice]
    assert told[0] == told[1] and told[0]["state"] == "completed"
    assert production.settled(journey) == ("completed", {})
    again = production.command(*journey.words, "--yes", "--json", "--key", "alert-7")
    assert _told(again) == told[0]
    assert production.newest() == told[0]["saga"]


def test_who_died_over_the_same_order_is_named(production: Production) -> None:
    journey = production.journeys["system"]
    production.begin(journey)
    words = (*journey.words, "--yes", "--json", "--key", "alert-8")
    at = "route.switch/do/effect-done"
    assert production.command(*words, EBBTIDE_CRASH_AT=at).ended().killed
    production.expire()
    refused = production.command(*words).ended()
    assert refused.code == _OPEN and "ebbtide recover ride-pricing" in refused.out
    assert production.recover().code == 0
    assert _told(production.command(*words))["state"] == "taken back"
    assert production.settled(journey) == ("taken back", {})


def _told(child: Child) -> dict[str, object]:
    out = child.ended().out
    found: dict[str, object] = json.loads(out[out.index("{") :])
    return found
