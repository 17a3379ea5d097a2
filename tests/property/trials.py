"""What happens to a system: orders, deaths, outages, rivals, meddlers, recoveries.

Each trial picks its details with `pick`, so that Hypothesis and a plain seed
drive the same trials.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from ebbtide.core import quarantine
from ebbtide.core.errors import Refused, Unreachable
from ebbtide.core.planner import Order
from ebbtide.core.saga import ROLLBACKS, Level, SagaState
from flows.order import carry_out
from flows.unfinished import finish, pay
from tests.property.watched import VERSIONS, Watched

T = TypeVar("T")
_POINTS = tuple(f"#{n}" for n in range(1, 161))
"""A saga of two halves passes some 160 points, journal writes among them."""
_HOURS = (-3600.0, 0.0, 3600.0, -(10.0**9))


class Pick(Protocol):
    def __call__(self, among: Sequence[T], /) -> T: ...


class Trials(Watched):
    """One system; each method is one thing that happens to it."""

    def order(self, pick: Pick) -> None:
        """Somebody orders a move."""
        self._order(self._ordered(pick))

    def order_and_die(self, pick: Pick) -> None:
        """Its process dies on the way."""
        self._order(self._ordered(pick), pick(_POINTS))

    def order_badly(self, pick: Pick) -> None:
        """The target answers otherwise than recorded: what was done must be taken back."""
        self.world.serving.wrong = True
        try:
            self._order(self._ordered(pick), pick(("", *_POINTS)))
        finally:
            self.world.serving.wrong = False

    def order_into_an_outage(self, pick: Pick) -> None:
        """A store goes away in the middle."""
        names = (*self.world.layers, "cache")
        self._order(self._ordered(pick), pick(_POINTS), lambda: self._take_away(pick(names)))

    def order_among_meddlers(self, pick: Pick) -> None:
        """Somebody moves a pointer by hand in the middle."""
        self._order(self._ordered(pick), pick(_POINTS), lambda: self.meddle(pick))

    def order_against_a_rival(self, pick: Pick) -> None:
        """Another process orders something else, while this one is under way."""
        other, _ = self._ordered(pick), self.rival
        self._order(self._ordered(pick), pick(_POINTS), lambda: self._rival(other))

    def sleep_past_the_lease(self, pick: Pick) -> None:
        """A process sleeps, its saga is taken over, and it wakes."""
        _ = self.rival
        self._order(self._ordered(pick), pick(_POINTS), self._recovered_by_another)

    def order_twice(self, pick: Pick) -> None:
        """The same order, submitted again: one effect, the same answer."""
        order = replace(self._ordered(pick), key=f"key {len(self.log)}")
        first = self._order(order, pick(("", "", *_POINTS)))
        self.recover(pick)
        if first is None or first.state is SagaState.OPEN:
            return
        sagas = len(self.world.journal.sagas(self.world.system, 10**6))
        again = carry_out(self.world, order)
        self._expect(again == first, "twice", f"the same order gave {again} after {first}")
        now = len(self.world.journal.sagas(self.world.system, 10**6))
        self._expect(now == sagas, "twice", "the same order became two sagas")

    def recover(self, _pick: Pick) -> None:
        """The lease has run out, and a new process finishes what is open."""
        if self._open():
            self._recover("")

    def recover_and_die(self, pick: Pick) -> None:
        """The recovery dies as well."""
        if self._open():
            self._recover(pick(_POINTS))

    def finish_by_hand(self, pick: Pick) -> None:
        """A person has mended what a halt was about, and asks for its end."""
        if self.model.halted and not self._open():
            self._recover(pick(("", *_POINTS)), by_hand=self.model.halted)

    def take_away(self, pick: Pick) -> None:
        """A store cannot be reached any more."""
        self._take_away(pick((*self.world.layers, "cache")))

    def give_back(self, _pick: Pick) -> None:
        """All stores are back, and what is owed is paid."""
        self._say("all stores are back")
        for adapter in self._stores():
            adapter.away = False
        if not self._open():
            pay(self.world, by="tester")
            self._judge()

    def meddle(self, pick: Pick) -> None:
        """Somebody moves a pointer past ebbtide."""
        layer, release = pick(tuple(self.world.layers)), pick(self.releases)
        self._say(f"somebody moves {layer} to {release.short}")
        self.world.layers[layer].meddle("main", release.pin(layer, "main"))
        self.besides.add((layer, "main"))

    def lift(self, _pick: Pick) -> None:
        """A person allows again what was denied."""
        denied = self.world.journal.quarantined(self.world.system)
        if denied and not self._open() and not self.model.halted:
            self._say(f"{len(denied)} denials are lifted")
            quarantine.lift(self.world, dict(denied), by="a person", reason="mended")
            self.model.denied.clear()

    def skew(self, pick: Pick) -> None:
        """This host's clock is somewhere else."""
        self.offset = pick(_HOURS)
        self._say(f"the clock is off by {self.offset} s")

    def settle(self) -> None:
        """In the end: all stores back, everything finished; then nothing may be left."""
        for adapter in self._stores():
            adapter.away = False
        self._recover("")
        for _ in range(2):
            if self.model.halted:
                self._recover("", by_hand=self.model.halted)
        pay(self.world, by="tester")
        self._judge()
        owed = self.world.journal.debts(self.world.system)
        mine = [debt for debt in owed if (debt.layer, debt.name) not in self.besides]
        self._expect(not mine, "settled", f"still owed: {mine}")
        self._expect(not self.world.journal.abandoned(), "settled", "a saga is open")

    def _ordered(self, pick: Pick) -> Order:
        level = pick((*ROLLBACKS, Level.SYSTEM, Level.PROMOTION, Level.PROMOTION))
        elsewhere = [n for n, each in enumerate(self.releases) if each.id != self.model.live]
        version = pick([VERSIONS[n] for n in elsewhere])
        order = Order(
            level, by="tester", reason="a trial", accept_unproved=pick((True, True, False))
        )
        target = self.releases[VERSIONS.index(version)].id
        if level is Level.MODEL:
            return replace(order, models={"main": pick((version, "1", "2"))})
        if level in {Level.FEATURES, Level.DATA}:
            here = self.model.live if pick((True, False)) else ""
            by_name: dict[str, Any] = (
                {"features": {"main": version}}
                if level is Level.FEATURES
                else {"tables": {"main": version}}
            )
            return replace(order, safe=here, **pick((by_name, {"to": target})))
        return replace(order, to=target)

    def _rival(self, order: Order) -> None:
        self.tally.rivals += 1
        before = self._written()
        open_ = self._open()
        found = self._elsewhere(lambda: carry_out(self.rival, order))
        self._say(f"  a rival orders {order}: {found!r}")
        if open_:
            self._expect(isinstance(found, Refused | Unreachable), "rival", f"it got {found!r}")
            self._expect(self._written() == before, "rival", "it was refused, and has written")

    def _recovered_by_another(self) -> None:
        self.tally.zombies += 1
        self._expire()
        found = self._elsewhere(lambda: finish(self.rival, by="another"))
        self._say(f"  another takes over: {found!r}")
        if isinstance(found, list) and found:
            self._after_other = self._written()
