"""What happened, as the report tells it: plain data, from whoever saw it happen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from reference.ride_pricing.oracle import Verdict
from reference.ride_pricing.traffic import Served


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on the time axis. Seconds since the epoch."""

    label: str
    at: float


@dataclass(frozen=True, slots=True)
class Shipped:
    """A release by the name that people know it by."""

    release: str
    name: str
    what: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class ChangedThing:
    """What the rollback changed in one layer, or left alone."""

    layer: str
    name: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class TimedStep:
    phase: str
    name: str
    does: str
    seconds: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Course:
    """One saga of the rollback, with its steps in order."""

    title: str
    steps: Sequence[TimedStep]


@dataclass(frozen=True, slots=True)
class Compared:
    """One combination of layers, scored aside against the truth. Errors as shares."""

    name: str
    demand_excess: float
    demand_error: float
    price_error: float
    note: str = ""


@dataclass(frozen=True)
class Story:
    """All that the picture and the page show."""

    system: str
    served: Sequence[Served]
    """What the traffic client saw, oldest first."""
    shipped: Sequence[Shipped]
    deployed: Mark
    detected: Mark
    rolled_back: Mark
    """When the last replica had left the bad release."""
    arrived: Mark | None = None
    """When the last replica served the target, where a safe release served meanwhile."""
    title: str = "a bad release, taken back whole"
    lead: str = ""
    """What went wrong and what was done, in a few sentences."""
    changes: Sequence[ChangedThing] = ()
    courses: Sequence[Course] = ()
    compared: Sequence[Compared] = ()
    compared_title: str = "What each would have done to the prices"
    refusal: str = ""
    """What a gate said to an order that was no way out."""
    left: Sequence[str] = ()
    """What became of rows that the restored tables do not show any more."""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        took = self.rolled_back.at - self.detected.at
        return f"{self.system}: {self.title} in {took:.1f} s"

    @property
    def marks(self) -> tuple[Mark, ...]:
        found = (self.deployed, self.detected, self.rolled_back)
        return (*found, self.arrived) if self.arrived else found

    @property
    def counts(self) -> Mapping[Verdict, int]:
        found = Counter(served.verdict for served in self.served)
        return {verdict: found[verdict] for verdict in Verdict}

    @property
    def bad_afterwards(self) -> int:
        """Answers of a bad release to who asked after the last replica had left it."""
        bad = {each.release for each in self.shipped if each.bad}
        after = self.rolled_back.at
        return sum(each.release in bad for each in self.served if each.at > after)

    @property
    def while_made(self) -> Mapping[str, int]:
        """Who answered how often, by name, between the bad release and the target; the bad too."""
        if self.arrived is None:
            return {}
        first, last = self.rolled_back.at, self.arrived.at
        names = {each.release: each.name for each in self.shipped}
        found = Counter(
            names.get(each.release, "nobody") for each in self.served if first < each.at < last
        )
        bad = {each.name for each in self.shipped if each.bad}
        return {**dict.fromkeys(bad, 0), **found}

    @property
    def start(self) -> float:
        """The zero of the time axis."""
        return min((served.at for served in self.served), default=self.deployed.at)

    def price_error(self, release: str) -> float | None:
        """Median over a release's responses; None where it never served."""
        errors = [
            served.price_error
            for served in self.served
            if served.release == release and served.price_error is not None
        ]
        return median(errors) if errors else None

    def latency(self, share: float) -> float | None:
        """Seconds within which this share of the requests was answered."""
        found = sorted(served.seconds for served in self.served if served.status)
        return found[min(int(share * len(found)), len(found) - 1)] if found else None
