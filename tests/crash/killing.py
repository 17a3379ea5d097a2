"""One death after another: killed at a point, recovered, perhaps killed while recovered, judged."""

from collections import Counter
from dataclasses import dataclass, field

from tests.crash.journeys import Journey
from tests.crash.oracle import INVARIANTS, Findings
from tests.crash.production import Production


@dataclass(frozen=True)
class Case:
    """A journey, the point at which it dies, and the one at which its recovery does."""

    journey: Journey
    point: str
    again: str = ""

    def __str__(self) -> str:
        second = f", then at {self.again} of the recovery" if self.again else ""
        return f"{self.journey.name}: killed at {self.point}{second}"


@dataclass
class Outcome:
    """How a case ended."""

    state: str
    wrong: Findings
    deaths: int


def kill(made: Production, case: Case) -> Outcome:
    """Let it die, let its lease run out, recover in a fresh process, judge."""
    made.begin(case.journey)
    ended = made.order(case.journey, EBBTIDE_CRASH_AT=case.point).ended()
    assert ended.killed, f"{case}: that point was never reached: {ended.code} {ended.out}"
    deaths = 1
    made.expire()
    made.traces.meanwhile()
    if case.again and made.recover(EBBTIDE_CRASH_AT=case.again).killed:
        deaths += 1
        made.expire()
    recovered = made.recover()
    state, wrong = made.settled(case.journey)
    if recovered.code:
        wrong.setdefault("I2", []).append(f"recovery ended with {recovered.code}: {recovered.out}")
    return Outcome(state, wrong, deaths)


@dataclass
class Tally:
    """How many ended where, and which invariants did not hold."""

    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, case: Case, outcome: Outcome) -> None:
        self.ended[case.journey.name, outcome.state] += 1
        self.deaths += outcome.deaths
        for name, lines in outcome.wrong.items():
            self.wrong[name] += 1
            self.lines += [f"{case}: {name}: {line}" for line in lines]

    @property
    def cases(self) -> int:
        return self.ended.total()

    def table(self) -> str:
        states = ("never begun", "refused", "taken back", "completed", "needs human", "open")
        rows = [f"{'':<14}" + "".join(f"{state:>13}" for state in states)]
        for name in dict.fromkeys(name for name, _ in self.ended):
            counts = (self.ended[name, state] for state in states)
            rows.append(f"{name:<14}" + "".join(f"{count or '':>13}" for count in counts))
        rows += ["", f"{self.cases} sagas, {self.deaths} processes killed"]
        for name, law in INVARIANTS.items():
            broken = self.wrong[name]
            # No failure in n runs: with 95 % confidence it holds in 1 - 3/n of them.
            bound = f"holds in {1 - 3 / self.cases:.2%} or more" if self.cases > 3 else ""
            rows.append(f"{name:<4}{law:<52} {f'BROKEN {broken} times' if broken else bound}")
        return "\n".join([*rows, *self.lines])
