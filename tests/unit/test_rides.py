"""The generator: the same city from the same seed, and counts that fit its truth."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ebbtide.core.digests import digest
from reference.ride_pricing.rides import HISTORY, RARE, SLOTS, WEEKS, ZONES, City, stamp

HERE = Path(__file__).parents[2]
_PRINT_DIGEST = """
import sys
from tests.unit.test_rides import fingerprint
print(fingerprint(int(sys.argv[1])))
"""


def fingerprint(seed: int) -> str:
    city = City(seed)
    tables = [table.to_pydict() for table in (city.rides(), city.weather(), city.zones())]
    texts = [[str(value) for column in table.values() for value in column] for table in tables]
    return digest([texts, city.calendar(), city.hard_questions(), city.expected.tolist()])


def test_the_same_seed_gives_the_same_city_in_another_process() -> None:
    there = subprocess.run(
        [sys.executable, "-c", _PRINT_DIGEST, "7"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == fingerprint(7)


def test_another_seed_gives_another_city() -> None:
    assert City(7).rides() != City(8).rides()
    assert City(7).calendar() != City(8).calendar()


def test_counts_are_drawn_around_the_truth() -> None:
    city = City(7)
    counts = city.rides()["rides"].to_numpy().reshape(HISTORY, SLOTS, len(ZONES)).sum(axis=1).T
    truth = city.expected[:, :HISTORY]
    by_zone = counts.sum(axis=1) / truth.sum(axis=1)
    assert np.all(np.abs(by_zone - 1) < 0.05), dict(zip(ZONES, by_zone, strict=True))
    scatter = (counts - truth) / np.sqrt(truth)
    assert 1.0 < scatter.std() < 1.5, "more scatter than Poisson, and not much more"


def test_the_true_demand_of_a_row_is_the_expectation_of_its_zone_and_hour() -> None:
    city = City(7)
    n = HISTORY + 20
    assert city.true_demand("Old Town", stamp(n)) == city.expected[0, n]
    assert (
        city.true_demand("Old Town", datetime(2026, 1, 5, 3, 59, tzinfo=UTC))
        == (city.expected[0, 3])
    )


@pytest.mark.parametrize(
    ("zone", "hour"), [("Nowhere", stamp(5)), ("Old Town", "2025-12-31T00:00:00Z")]
)
def test_there_is_no_truth_outside_the_city(zone: str, hour: str) -> None:
    with pytest.raises(KeyError, match="calendar"):
        City(7).true_demand(zone, hour)


def test_rain_and_events_draw_riders() -> None:
    city = City(7)
    plain = City(7).expected[:, :HISTORY].mean(axis=1)
    event = next(event for event in city.events if event.zone == "Stadium")
    zone = [zone.name for zone in ZONES].index("Stadium")
    assert city.expected[zone, event.start] > plain[zone]
    wet = city.rain > 0
    assert 0.1 < wet.mean() < 0.35


def test_the_tables_are_small_and_whole() -> None:
    city = City(7)
    assert city.rides().num_rows == WEEKS * 7 * 24 * SLOTS * len(ZONES) <= 200_000
    assert city.rides()["rides"].null_count == 0
    observed = city.weather()["observed_at"].to_pylist()
    assert observed == sorted(observed)


def test_the_golden_set_asks_the_hard_cases() -> None:
    city = City(7)
    golden = city.hard_questions()
    assert len(golden) == 500
    assert len({(row["zone"], row["hour"]) for row in golden}) == 500
    assert {row["zone"] for row in golden} >= RARE
    busy = {
        (event.zone, stamp(hour))
        for event in city.events
        for hour in range(event.start, event.start + event.hours)
    }
    assert any((row["zone"], row["hour"]) in busy for row in golden)
    priced = city.questions()
    assert all(row in priced for row in golden + city.smoke_questions())
