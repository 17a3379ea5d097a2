"""A system beside the model of what should come of it: both are compared after each order."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import mock

from ebbtide.adapters.journal import open_journal
from ebbtide.core.digests import digest
from ebbtide.core.errors import EbbtideError, Fenced, Refused, Unreachable
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import BUILT_IN, OTHERS, Level, Saga, SagaState
from ebbtide.testing import fake_world
from ebbtide.testing.deaths import Deaths, Died, dying
from ebbtide.testing.invariants import Seen, broken, seen
from flows.order import carry_out
from flows.unfinished import finish
from tasks import patience
from tests.property.model import Model
from tests.property.tally import Broken, Tally

VERSIONS = ("1", "2", "3", "4")
_FEATURES = {"2": "1"}
"""The second release is the first with another model: what level `model` can go between."""


class Watched:
    """One system; whatever is ordered of it is judged at once."""

    def __init__(self, folder: Path, tally: Tally) -> None:
        self.tally, self.log = tally, list[str]()
        self.path = folder / "journal.db"
        self.world = fake_world(folder)
        model: Any = self.world.layers["model"]
        model._at = lambda version: {"trained_on": _features(version)}
        self.releases = [self._recorded(version) for version in VERSIONS]
        self.model = Model()
        self.offset = 0.0
        self.besides: set[tuple[str, str]] = set()
        """What somebody else has moved, or a halt has left, and no saga has put right since."""
        self.stale = False
        """The cache was away when its token should have moved."""
        self.before: Seen = seen(self.world)
        self._judged: object = None
        """What was written when the invariants were last looked at."""
        self._after_other: object = None
        """What was written when another process had taken a saga over."""
        self._order(Order(Level.PROMOTION, by="tester", to=self.releases[0].id))

    def close(self) -> None:
        self.world.journal.close()
        if "rival" in self.__dict__:
            self.rival.journal.close()

    @cached_property
    def rival(self) -> World:
        """The same stores, by another process's connection to the journal."""
        return replace(self.world, journal=open_journal(f"sqlite:///{self.path}"))

    def _order(
        self, order: Order, at: str = "", instead: Callable[[], None] | None = None
    ) -> Saga | None:
        self._say(f"{order} at {at or 'no point'}{' something happens' if instead else ''}")
        expected = self._expected(order, bool(at))
        ended: Saga | None = None
        why = ""
        with self._clock(), dying(at) as deaths:
            deaths.instead = partial(_outside, deaths, instead) if instead else None
            self._after_other = None
            try:
                ended = carry_out(self.world, order)
            except Died:
                self.tally.deaths += 1
                why = "died"
            except (Refused, Unreachable) as fault:
                self.tally.refused[type(fault).__name__] += 1
                why = f"{type(fault).__name__}: {fault}"
            except Fenced:
                why = "fenced"
        self._say(f"  {why or (ended.state if ended else '')} {ended.why if ended else ''}")
        self._settle_model()
        self._judge()
        found = why.partition(":")[0] if why else str(ended.state if ended else "")
        if expected and found not in expected:
            self._expect(False, "model", f"{order} was to be {expected}, and was {found}: {why}")
        if self._after_other is not None:
            self._expect(why == "fenced", "zombie", f"it woke and ended with {why or ended}")
            self._expect(self._written() == self._after_other, "zombie", "it woke and has written")
        else:
            self._expect(why != "fenced", "zombie", "it was fenced, and nobody had taken over")
        return ended

    def _expected(self, order: Order, disturbed: bool) -> set[str]:
        """How an order straight to a release must end where nothing disturbs it; empty: unsure."""
        if self._open():
            return {
                "SagaOpen",
                "AlreadyLive",
                "Quarantined",
                "NeverProved",
                "Refused",
                "Unreachable",
            }
        if disturbed or any(adapter.away for adapter in self._stores()):
            return set()
        if self.world.serving.wrong or order.level not in {Level.SYSTEM, Level.PROMOTION}:
            return set()
        target = self.world.journal.release(order.to)
        if self.model.refuses(order.level, target, accept_unproved=order.accept_unproved):
            return {"AlreadyLive", "Quarantined", "NeverProved"}
        return {"completed"}

    def _recover(self, at: str, by_hand: str = "") -> None:
        self._say(f"recovery{' by hand' if by_hand else ''} at {at or 'no point'}")
        self._expire()
        if by_hand:
            self.model.seen[by_hand] = SagaState.OPEN
        with self._clock(), dying(at):
            try:
                for saga in finish(self.world, by="tester", saga=by_hand):
                    self._say(f"  {saga.state} {saga.why} {saga.left}")
            except Died:
                self.tally.deaths += 1
                self._say("  died")
        self._settle_model()
        self._judge()

    def _elsewhere(self, function: Callable[[], object]) -> object:
        """What a call gives, or raises, in a thread of its own: as another process."""
        found: list[object] = []

        def run() -> None:
            try:
                found.append(function())
            except (EbbtideError, AssertionError) as fault:
                found.append(fault)

        thread = Thread(target=run)
        thread.start()
        thread.join()
        return found[0]

    def _take_away(self, name: str) -> None:
        self._say(f"{name} is away")
        if name == "cache":
            self.world.cache.away = self.stale = True
        else:
            self.world.layers[name].away = True

    def _settle_model(self) -> None:
        wrong = []
        for saga in reversed(self.world.journal.sagas(self.world.system, 10**6)):
            if saga.state is SagaState.OPEN or self.model.seen.get(saga.id) is saga.state:
                continue
            self.tally.ended[saga.level, saga.state] += 1
            wrong += self.model.ended(saga, self.world.journal.release)
            self.besides |= {(layer, "main") for layer in _left(saga, self.world)}
        self._expect(not wrong, "model", "; ".join(wrong))

    def _judge(self) -> None:
        if self._open() or self._written() == self._judged:
            return
        self._judged = self._written()
        found = broken(self.world, self.before, self.besides)
        self.before = seen(self.world)
        route = self.world.journal.route(self.world.system)
        live = route.release if route else ""
        if live != self.model.live:
            found["model"] = [f"{live[:12]} is live, not {self.model.live[:12]}"]
        denied = set(self.world.journal.quarantined(self.world.system))
        if denied != self.model.denied:
            found["model"] = [f"denied are {denied}, not {self.model.denied}"]
        if route and not self.world.cache.away:
            follows = self.world.cache.epoch() == route.token
            if not (follows or self.stale or self.model.halted):
                found["cache"] = [f"it is at {self.world.cache.epoch()}, not at {route.token}"]
            self.stale = self.stale and not follows
        if found:
            raise Broken(found, self.log)
        self._forget_what_follows(live)

    def _forget_what_follows(self, live: str) -> None:
        """What shows the live release is nobody else's any more."""
        release = self.world.journal.release(live) if live else None
        for layer, name in list(self.besides):
            adapter: Any = self.world.layers[layer]
            if release and not adapter.away and adapter.live(name) == release.pin(layer, name):
                self.besides.discard((layer, name))

    def _expect(self, holds: bool, what: str, why: str) -> None:
        if not holds:
            raise Broken({what: [why]}, self.log)

    def _written(self) -> object:
        """How much was ever written: what stays the same has seen no write."""
        entries = self.world.journal.audit("", 1)[0].n
        stores: Any = self.world
        moves = [len(adapter.moves) for adapter in stores.layers.values()]
        return entries, moves, len(stores.cache.tokens), dict(stores.layers["data"].held)

    def _open(self) -> bool:
        newest = self.world.journal.sagas(self.world.system, 1)
        return bool(newest) and newest[0].state is SagaState.OPEN

    def _stores(self) -> list[Any]:
        return [*self.world.layers.values(), self.world.cache]

    def _expire(self) -> None:
        """Let the lease run out, as 15 silent seconds would."""
        with closing(sqlite3.connect(self.path)) as journal, journal:
            journal.execute("UPDATE sagas SET lease_until = 1 WHERE state = 'open'")

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """This host's clock, and no pauses where a store is asked again."""
        real, offset = time.time, self.offset
        without_pauses = mock.patch.object(patience, "_FIRST", 0.0)

        def skewed() -> float:
            return real() + offset

        with mock.patch("time.time", skewed), without_pauses:
            yield

    def _recorded(self, version: str) -> Release:
        kept = _FEATURES.get(version, version)
        asks = {
            layer: {"main": kept if layer in {"features", "data"} else version}
            for layer in self.world.layers
        }
        release = resolve(self.world, asks)
        record(self.world, release, by="tester")
        return release

    def _say(self, line: str) -> None:
        self.log.append(line)


def _outside(deaths: Deaths, happens: Callable[[], None]) -> None:
    """Something else happens, but not while this process holds the journal's write lock."""
    if deaths.passed[-1] == "journal/uncommitted":
        deaths.at = f"#{len(deaths.passed) + 1}"
    else:
        happens()


def _features(version: str) -> str:
    """The digest of the features that a version's model was trained on."""
    return digest(["features", "main", _FEATURES.get(version, version)])


def _left(saga: Saga, world: World) -> set[str]:
    """The layers that a halt says are left."""
    rows = {step["name"]: step["layer"] for step in saga.plan["steps"]}
    named = {rows.get(line.removeprefix("take back ").partition(":")[0], "") for line in saga.left}
    others = set(world.layers) - set(BUILT_IN) if OTHERS in named else set()
    return (named & set(world.layers)) | others
