"""Availability under rollback: 100 level 2 rollbacks back and forth at 500 requests a second.

A gateway and a client run as processes of their own; the client keeps its
connections open, and judges every response against answers that were worked
out aside (served, failed, mixed). "During" are the requests that were sent
between a rollback's order and its end, "steady" those of the last second before
each order: both are of one run, so whatever else the machine does is in both. A
switch begins with an empty cache and with what was rehearsed, and what that costs
goes on after a rollback's end: so there is also the latency by quarter of a second
since the switch, and how long it took until p99 was back, which is to say in no
later quarter more than twice that of the steady state. "Cached" counts answers that
were made ahead, too. The picture lays all rollbacks over each other, by the time
since the route was switched. Gateway, client and saga share this machine.
"""

import sys
import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite
from pathlib import Path

from benchmarks.common import (
    Bar,
    Grid,
    Report,
    counted,
    finish,
    ms,
    options,
    percentile,
    ratio,
    tell,
)
from benchmarks.rollback import judged
from benchmarks.rollback_found import Load
from benchmarks.system import Production, ended, gateway, production, until
from ebbtide.core.planner import Order
from ebbtide.core.saga import Level
from flows.order import carry_out
from reference.ride_pricing.traffic import Served, Traffic

PLOTS = Path(__file__).parent / "plots"
_RATE = 500.0
_CONNECTIONS = 32
_PAUSE = 4.0
"""Seconds between two rollbacks, in which the steady state is measured, and in which the release
that was left is asked anew what comes again and again."""
_NINES = 0.99
_STEADY = 1.0
"""Seconds before an order that count as the steady state."""
_BACK = 2.0
"""Times the steady state's p99 that is asked of p99 during a rollback, and to be back."""
_QUIET = 10.0
"""Milliseconds that the steady state's p99 has at most on a machine without other work."""
_QUARTER = 0.25
_SHOWN = (-1.0, 2.0)
"""Seconds around a switch that the picture shows."""
_BIN = 0.05


@dataclass(frozen=True, slots=True)
class Rollback:
    """When one rollback took place, in seconds since the epoch."""

    began: float
    switched: float
    ended: float


def main(argv: Sequence[str] | None = None) -> int:
    asked = options(__doc__, argv)
    report = measure(asked.quick, counted(asked, 10, 100))
    return finish(report, asked.json)


def measure(quick: bool, rounds: int) -> Report:
    with production() as made, gateway(made):
        for name in ("v1", "v2"):
            made.promote(name)
        tell(f"{rounds} rollbacks at {_RATE:.0f} requests a second")
        found, served = _back_and_forth(made, rounds)
    return _report(found, served, quick)


def _back_and_forth(made: Production, rounds: int) -> tuple[list[Rollback], list[Served]]:
    workspace, found = made.workspace, []
    riders = Traffic(
        made.url,
        questions=workspace.questions,
        expected=workspace.expected,
        out=made.folder / "aside/availability.jsonl",
        rate=_RATE,
        connections=_CONNECTIONS,
    )
    with riders:
        until(lambda: len(riders.served()) > 2 * _RATE, "the client to ask")
        for n in range(rounds + 1):
            one = _one(made, ("v1", "v2")[n % 2])
            found += [one] if n else []  # the first also pays for what this process imports
            made.lift_quarantine()
            time.sleep(_PAUSE)
        return found, riders.stop()


def _one(made: Production, to: str) -> Rollback:
    began = time.time()
    saga = ended(
        carry_out(made.world, Order(Level.SYSTEM, by="benchmark", to=made.releases[to].id))
    )
    steps = {step.name: step for step in made.world.journal.steps(saga.id)}
    switched = steps["route.switch"].done_at
    if switched is None:
        raise RuntimeError("the saga says that it has ended, but not when the route was switched")
    return Rollback(began, switched, time.time())


def _report(found: Sequence[Rollback], served: Sequence[Served], quick: bool) -> Report:
    first = found[0].began
    counted = [each for each in served if each.at >= first]
    load = judged(counted)
    steady, during = _steady(found, served), _during(found, counted)
    bar = _BACK * _p99(steady)
    quarters = _binned(found, counted, _QUARTER, (0, _PAUSE))
    back = _back(quarters, bar)
    report = Report("availability", __doc__ or "", quick)
    report.grids = [
        _requests(load, len(found)),
        _latencies((("steady", steady), ("during a rollback", during))),
        _latencies(_named(quarters), f"Since the switch: p99 was back after {back:g} s"),
    ]
    report.bars = [
        Bar("failed requests", load.failed, 0),
        Bar("mixed requests", load.mixed, 0),
        # A ratio to the steady state of a machine with other work says nothing.
        Bar("p99 of the steady state", _p99(steady) * 1e3, _QUIET, "ms"),
        Bar("requests a second", load.per_second, 0.95 * _RATE, at_least=True),
        Bar(
            "p99 during a rollback / p99 of the steady state",
            ratio(_p99(during), _p99(steady)),
            _BACK,
        ),
    ]
    report.figures = {
        "rollbacks": len(found),
        "requests": load.requests,
        "during": len(during),
        "steady": len(steady),
        "p99 by quarter of a second": [_p99(quarters[place]) for place in sorted(quarters)],
        "seconds until p99 is back": back if isfinite(back) else None,
    }
    if not quick:
        report.plot = "availability.png"
        _draw(found, counted, PLOTS / report.plot)
    return report


def _steady(found: Sequence[Rollback], served: Sequence[Served]) -> list[Served]:
    """The requests that were sent just before an order."""
    begins = [each.began for each in found]
    nexts = [bisect_right(begins, each.at) for each in served]
    return [
        each
        for place, each in zip(nexts, served, strict=True)
        if place < len(begins) and begins[place] - each.at <= _STEADY
    ]


def _during(found: Sequence[Rollback], served: Sequence[Served]) -> list[Served]:
    """The requests that were sent while a rollback was under way."""
    begins = [each.began for each in found]
    places = [bisect_right(begins, each.at) - 1 for each in served]
    return [
        each
        for place, each in zip(places, served, strict=True)
        if place >= 0 and each.at <= found[place].ended
    ]


def _back(quarters: Mapping[int, Sequence[Served]], bar: float) -> float:
    """Seconds since the switch from which on no quarter's p99 is above a bar; NaN: it never was."""
    above = [place for place, served in quarters.items() if not _p99(served) <= bar]
    if not quarters or max(quarters) in above:
        return float("nan")
    return (max(above, default=-1) + 1) * _QUARTER


def _p99(served: Sequence[Served]) -> float:
    return percentile([each.seconds for each in served], _NINES)


def _named(quarters: Mapping[int, Sequence[Served]]) -> list[tuple[str, Sequence[Served]]]:
    return [(f"from {place * _QUARTER:.2f} s", quarters[place]) for place in sorted(quarters)]


def _requests(load: Load, rollbacks: int) -> Grid:
    row = (
        str(rollbacks),
        f"{load.requests:,}",
        f"{load.per_second:.0f}",
        f"{load.cached / max(1, load.requests):.0%}",
        str(load.failed),
        f"{load.mixed} {load.why}".strip(),
    )
    columns = ("rollbacks", "requests", "a second", "cached", "failed", "mixed")
    return Grid("What the client saw, by its own judgement", columns, (row,))


def _latencies(samples: Iterable[tuple[str, Sequence[Served]]], title: str = "Latency") -> Grid:
    rows = []
    for name, served in samples:
        seconds = [each.seconds for each in served]
        cached = ratio(sum(each.cache in ("hit", "ahead") for each in served), len(served))
        found = (ms(percentile(seconds, share)) for share in (0.5, _NINES, 1.0))
        rows.append((name, f"{len(served):,}", f"{cached:.0%}", *found))
    columns = ("", "requests", "cached", "median ms", "p99 ms", "max ms")
    return Grid(title, columns, tuple(rows))


def _draw(found: Sequence[Rollback], served: Sequence[Served], to: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    bins = _binned(found, served, _BIN, _SHOWN)
    moments = sorted(bins)
    figure, panel = pyplot.subplots(figsize=(9, 3.6))
    for share, name in ((0.5, "median"), (_NINES, "p99")):
        values = [
            percentile([each.seconds for each in bins[moment]], share) * 1e3 for moment in moments
        ]
        panel.plot([moment * _BIN for moment in moments], values, label=name)
    panel.axvline(0, color="grey", linestyle="--", linewidth=1)
    panel.set(
        xlabel="seconds since the route was switched",
        ylabel="latency, ms",
        yscale="log",
        title=f"{len(found)} rollbacks of level 2, {len(served):,} requests",
    )
    panel.legend()
    to.parent.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(to, dpi=120)
    pyplot.close(figure)


def _binned(
    found: Sequence[Rollback], served: Sequence[Served], width: float, around: tuple[float, float]
) -> dict[int, list[Served]]:
    """Requests by the time since a switch, in bins; `around`: from when to when, in seconds."""
    first, last = around
    bins: dict[int, list[Served]] = {}
    switches = [each.switched for each in found]
    for each in served:
        place = bisect_right(switches, each.at - first) - 1
        since = each.at - switches[place] if place >= 0 else last
        if since < last:
            bins.setdefault(floor(since / width), []).append(each)
    return bins


if __name__ == "__main__":
    sys.exit(main())
