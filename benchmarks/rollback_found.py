"""What the rollbacks' benchmark found, and how it is shown and held to its bars."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.common import (
    SPREAD,
    Bar,
    Grid,
    Report,
    middle,
    ms,
    percentile,
    ratio,
    spread,
    spreads,
)


@dataclass
class Times:
    """Seconds since the order, of each rollback in turn."""

    switched: list[float] = field(default_factory=list)
    agreed: list[float] = field(default_factory=list)
    proved: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    golden: list[float] = field(default_factory=list)
    """How long the golden set took, which is in `proved` and `whole`."""
    steps: dict[str, list[float]] = field(default_factory=dict)
    """From intent to proof. What was there is remembered before the intent: between the steps."""

    @property
    def without_golden(self) -> list[float]:
        return [all_ - golden for all_, golden in zip(self.whole, self.golden, strict=True)]


@dataclass(frozen=True)
class Load:
    """What the client saw."""

    requests: int
    per_second: float
    failed: int
    mixed: int
    cached: int
    seconds: Sequence[float]
    why: str
    """Why the first one that was not served was not."""


@dataclass
class Found:
    """Every figure of a run."""

    sagas: dict[str, tuple[Times, Load]] = field(default_factory=dict)
    limit: list[float] = field(default_factory=list)
    effects: Mapping[str, list[float]] = field(default_factory=dict)
    """Each of the bare effects, by the saga's step of the same effect."""
    manual: list[float] = field(default_factory=list)
    commands: Mapping[str, list[float]] = field(default_factory=dict)


def report(found: Found, measured: str, quick: bool) -> Report:
    made = Report("rollback", measured, quick)
    made.grids = [_times(found), _loads(found), _compared(found), _steps(found), _typed(found)]
    made.bars = _bars(found)
    made.figures = {
        **{
            name: {**asdict(times), "load": asdict(load)}
            for name, (times, load) in found.sagas.items()
        },
        "limit": found.limit,
        "effects": found.effects,
        "runbook": found.manual,
        "commands": found.commands,
    }
    return made


def _times(found: Found) -> Grid:
    samples = (
        (f"{name}: {what}", values)
        for name, (times, _) in found.sagas.items()
        for what, values in (
            ("order to route switched", times.switched),
            ("order to all replicas switched", times.agreed),
            ("order to proved", times.proved),
            ("whole saga", times.whole),
            ("whole saga, golden set aside", times.without_golden),
        )
    )
    return spreads("Rollbacks in a warm process, under load", samples)


def _loads(found: Found) -> Grid:
    rows = tuple(
        (
            name,
            f"{load.requests:,}",
            f"{load.per_second:.0f}",
            f"{load.cached / max(1, load.requests):.0%}",
            ms(middle(load.seconds)),
            ms(percentile(load.seconds, 0.99)),
            str(load.failed),
            f"{load.mixed} {load.why}".strip(),
        )
        for name, (_, load) in found.sagas.items()
    )
    columns = ("", "requests", "a second", "cached", "median ms", "p99 ms", "failed", "mixed")
    return Grid("The client's requests meanwhile, by its own judgement", columns, rows)


def _compared(found: Found) -> Grid:
    times = found.sagas["level 2"][0]
    ours, whole = middle(times.without_golden), middle(times.whole)
    limit, manual = middle(found.limit), middle(found.manual)
    rows = (
        ("level 2, whole saga", *spread(times.whole), "1.0"),
        ("the bare effects", *spread(found.limit), f"{ratio(limit, whole):.2f}"),
        ("the runbook, typed at once", *spread(found.manual), f"{ratio(manual, whole):.0f}"),
    )
    title = f"Side by side (saga without golden set: {ms(ours)} ms)"
    return Grid(title, ("", *SPREAD, "times the saga"), rows)


def _steps(found: Found) -> Grid:
    columns = {name: times.steps for name, (times, _) in found.sagas.items()}
    columns["the bare effect"] = dict(found.effects)
    every = dict.fromkeys(step for steps in columns.values() for step in steps)
    rows = tuple(
        (step, *(_median_of(steps.get(step, [])) for steps in columns.values())) for step in every
    )
    return Grid("Where a saga's time goes, median ms a step", ("step", *columns), rows)


def _median_of(values: Sequence[float]) -> str:
    return ms(middle(values)) if values else ""


def _typed(found: Found) -> Grid:
    rows = tuple((name, _median_of(values)) for name, values in found.commands.items())
    return Grid("The runbook's commands", ("command", "median ms"), rows)


def _bars(found: Found) -> list[Bar]:
    one, two = found.sagas["level 1"][0], found.sagas["level 2"][0]
    shown = found.sagas.get("level 2 with Prefect")
    loads = [load for _, load in found.sagas.values()]
    slowest = min(load.per_second for load in loads)
    bars = [
        Bar("load while rolling back", slowest, 200, "requests/s", at_least=True),
        Bar("level 1: p99, order to all replicas", percentile(one.agreed, 0.99) * 1e3, 250, "ms"),
        Bar(
            "level 2: whole, golden set aside, to the bare effects (medians)",
            ratio(middle(two.without_golden), middle(found.limit)),
            4,
            "times",
        ),
        Bar("failed requests", sum(load.failed for load in loads), 0),
        Bar("mixed requests", sum(load.mixed for load in loads), 0),
        Bar(
            "level 2: faster than the runbook (medians)",
            ratio(middle(found.manual), middle(two.whole)),
            20,
            "times",
            at_least=True,
        ),
    ]
    if shown:
        p99 = percentile(shown[0].whole, 0.99)
        bars.insert(3, Bar("level 2 with Prefect: p99, whole saga", p99, 2, "s"))
    return bars
