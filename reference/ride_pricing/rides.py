"""A city whose demand for rides is known exactly, so that an error can be measured.

Everything follows from the seed. `true_demand` is the expectation that the
counts are drawn around: no model can know better, so it is the truth that
prices are compared with.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

START = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday."""
WEEKS = 9
"""Weeks of history; the week after it is the one that is priced."""
WEEK = 7 * 24
HISTORY = WEEKS * WEEK
HOURS = HISTORY + WEEK
SLOTS = 4
"""Counts are kept by the quarter of an hour."""

_DISPERSION = 60.0
"""Of the negative binomial: variance = mean + mean² / dispersion."""
_OBSERVED_AT = 53
"""The minute at which the weather station reports, give or take `_JITTER`."""
_JITTER = 8.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Zone:
    """`rides`: mean rides per hour. `drivers`: on shift from 6 to 22 h, and at night."""

    name: str
    kind: str
    rides: float
    drivers: tuple[float, float]


ZONES = (
    Zone("Old Town", "night", 92, (46, 34)),
    Zone("Harbour", "night", 64, (33, 23)),
    Zone("Central Station", "travel", 118, (70, 25)),
    Zone("University", "night", 58, (31, 19)),
    Zone("Airport", "travel", 84, (50, 18)),
    Zone("Business Park", "office", 76, (46, 8)),
    Zone("Stadium", "night", 30, (16, 11)),
    Zone("Riverside", "home", 54, (31, 12)),
    Zone("West End", "home", 70, (40, 15)),
    Zone("North Hills", "home", 38, (22, 8)),
    Zone("Lakeside", "home", 14, (8, 3)),
    Zone("Quarry", "office", 9, (5, 2)),
)
RARE = frozenset({"Lakeside", "Quarry"})
_VENUES = ("Stadium", "Harbour", "Old Town", "University")

_PEAKS: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    # hour of the day, width in hours, height above the floor of 0.25
    "night": ((13.0, 3.5, 0.7), (18.5, 2.5, 0.9), (23.0, 2.5, 1.3)),
    "travel": ((8.0, 2.5, 1.1), (14.0, 4.0, 0.8), (19.0, 3.0, 1.1)),
    "office": ((8.5, 1.8, 1.9), (13.0, 2.0, 0.6), (17.5, 2.0, 1.8)),
    "home": ((7.8, 1.8, 1.5), (12.5, 3.0, 0.5), (19.0, 3.0, 1.4)),
}
_DAYS: Mapping[str, tuple[float, ...]] = {
    # Monday to Sunday
    "night": (0.75, 0.8, 0.85, 1.0, 1.35, 1.45, 0.8),
    "travel": (1.15, 1.0, 0.95, 1.05, 1.25, 0.8, 0.8),
    "office": (1.2, 1.25, 1.25, 1.2, 1.1, 0.5, 0.5),
    "home": (1.0, 1.0, 1.0, 1.0, 1.05, 1.0, 0.95),
}


@dataclass(frozen=True, slots=True)
class Event:
    """Visitors, in thousands, who leave a zone in some hours. Known beforehand."""

    zone: str
    start: int
    hours: int
    visitors: float


@dataclass(frozen=True)
class City:
    """One seeded city. Hours are counted from `START`, UTC."""

    seed: int = 7

    @cached_property
    def expected(self) -> Floats:
        """Expected rides, by zone and hour."""
        hour = np.arange(HOURS)
        shape = np.array([_shape(zone.kind)[hour % WEEK] * zone.rides for zone in ZONES])
        wet = 1.0 + 0.30 * np.minimum(self.rain, 4.0) / 4.0
        drawn = 1.0 + 0.9 * np.log1p(self.visitors / 10.0)
        return np.asarray(shape * wet * drawn, dtype=np.float64)

    @cached_property
    def rain(self) -> Floats:
        """Millimetres in each hour: dry and wet spells, a fifth of the hours wet."""
        rng = self._rng(1)
        fall = rng.gamma(1.5, 1.2, HOURS)
        chance = rng.random(HOURS)
        wet = np.zeros(HOURS, dtype=bool)
        for hour in range(1, HOURS):
            wet[hour] = chance[hour] < (0.80 if wet[hour - 1] else 0.05)
        return np.where(wet, fall, 0.0)

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """Four in each week, in the evening, at the places that hold them."""
        rng = self._rng(2)
        found = []
        for week in range(WEEKS + 1):
            days = rng.choice(7, size=4, replace=False)
            for day, venue in zip(sorted(int(day) for day in days), _VENUES, strict=True):
                start = week * WEEK + day * 24 + int(rng.integers(17, 21))
                found.append(Event(venue, start, 4, round(float(rng.uniform(4, 16)), 1)))
        return tuple(found)

    @cached_property
    def visitors(self) -> Floats:
        """Thousands, by zone and hour."""
        there = np.zeros((len(ZONES), HOURS))
        for event in self.events:
            there[_INDEX[event.zone], event.start : event.start + event.hours] = event.visitors
        return there

    def true_demand(self, zone: str, hour: str | datetime) -> float:
        """Expected rides per hour: the truth. KeyError for an unknown zone or hour."""
        n = hours_since_start(hour)
        if zone not in _INDEX or not 0 <= n < HOURS:
            raise KeyError(f"{zone} at {hour} is not in this city's calendar")
        return float(self.expected[_INDEX[zone], n])

    def true_demands(self, rows: Iterable[Mapping[str, Any]]) -> Floats:
        """The truth for rows with `zone` and `hour`, in their order."""
        return np.array([self.true_demand(row["zone"], row["hour"]) for row in rows])

    def rides(self) -> "pa.Table":
        """Counted rides by zone and quarter of an hour, oldest first; about 72 000 rows."""
        import pyarrow as pa

        mean = np.repeat(self.expected[:, :HISTORY], SLOTS, axis=1) / SLOTS
        chance = _DISPERSION / (_DISPERSION + mean)
        counts = self._rng(3).negative_binomial(_DISPERSION, chance)
        slots = np.arange(HISTORY * SLOTS)
        return pa.table(
            {
                "zone": np.tile([zone.name for zone in ZONES], len(slots)),
                "slot": _stamps(np.repeat(slots * (60 // SLOTS), len(ZONES))),
                "rides": counts.T.reshape(-1).astype(np.int64),
            }
        )

    def weather(self) -> "pa.Table":
        """What the station reported, about once an hour, and the forecast of the coming week."""
        import pyarrow as pa

        rng = self._rng(4)
        minute = _OBSERVED_AT + rng.uniform(-_JITTER, _JITTER, HOURS)
        seen = self.rain * rng.uniform(0.9, 1.1, HOURS)
        return pa.table(
            {
                "observed_at": _stamps(np.arange(HOURS) * 60 + minute.astype(np.int64)),
                "rain_mm": np.round(seen, 2),
            }
        )

    def zones(self) -> "pa.Table":
        """How many drivers each zone has on shift. A driver takes two rides an hour."""
        import pyarrow as pa

        return pa.table(
            {
                "zone": [zone.name for zone in ZONES],
                "drivers_day": [float(zone.drivers[0]) for zone in ZONES],
                "drivers_night": [float(zone.drivers[1]) for zone in ZONES],
            }
        )

    def calendar(self) -> str:
        """The events as CSV: zone, first hour, hours, visitors in thousands."""
        lines = [
            f"{event.zone},{stamp(event.start)},{event.hours},{event.visitors}"
            for event in self.events
        ]
        return "\n".join(["zone,start,hours,visitors", *lines]) + "\n"

    def questions(self) -> list[dict[str, str]]:
        """Every zone and hour of the week that is priced: 2016 rows."""
        week = range(HISTORY, HOURS)
        return [{"zone": zone.name, "hour": stamp(hour)} for hour, zone in product(week, ZONES)]

    def hard_questions(self, count: int = 500) -> list[dict[str, str]]:
        """The golden set: events, nights, rain and rare zones of that week, drawn evenly."""
        week = self.questions()
        hard = [row for row in week if self._is_hard(row["zone"], row["hour"])]
        kept = self._rng(5).choice(len(hard), size=min(count, len(hard)), replace=False)
        return [hard[int(n)] for n in sorted(kept)]

    def smoke_questions(self) -> list[dict[str, str]]:
        """One ordinary row for each zone: what every release must be able to answer."""
        return [{"zone": zone.name, "hour": stamp(HISTORY + 12)} for zone in ZONES]

    def _is_hard(self, zone: str, hour: str) -> bool:
        n = hours_since_start(hour)
        night = n % 24 < 6 or n % 24 >= 22
        event = self.visitors[_INDEX[zone], n] > 0
        return bool(event or night or self.rain[n] > 0 or zone in RARE)

    def _rng(self, stream: int) -> np.random.Generator:
        """A stream of its own for each thing, so that one never shifts another."""
        return np.random.default_rng([self.seed, stream])


def stamp(hour: int) -> str:
    """`2026-03-09T18:00:00Z` for an hour counted from `START`."""
    return (START + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M:%SZ")


def hours_since_start(hour: str | datetime) -> int:
    """The other way round. A time without a zone is UTC."""
    at = datetime.fromisoformat(hour) if isinstance(hour, str) else hour
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int((at - START).total_seconds() // 3600)


_INDEX = {zone.name: n for n, zone in enumerate(ZONES)}


def _shape(kind: str) -> Floats:
    """A week's shape by hour, its mean 1."""
    hour = np.arange(24)
    day = np.full(24, 0.25)
    for peak, width, height in _PEAKS[kind]:
        away = np.minimum(abs(hour - peak), 24 - abs(hour - peak))
        day += height * np.exp(-0.5 * (away / width) ** 2)
    week = np.concatenate([factor * day for factor in _DAYS[kind]])
    return np.asarray(week / week.mean(), dtype=np.float64)


def _stamps(minutes: Sequence[int] | NDArray[np.int64]) -> "pa.Array":
    """Minutes since `START` as timestamps in UTC."""
    import pyarrow as pa

    start = int(START.timestamp())
    seconds = start + np.asarray(minutes, dtype=np.int64) * 60
    return pa.array(seconds * 1_000_000, type=pa.timestamp("us", tz="UTC"))
