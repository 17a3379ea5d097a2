"""The reference system's own suites, on what each version of its pipeline makes."""

import io
import runpy
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from ebbtide.adapters.expectations.examining import Examiner
from ebbtide.adapters.expectations.suites import examine, read_suite
from ebbtide.core.gates import Verdict
from ebbtide.core.release import Pin
from reference.ride_pricing.rides import City
from reference.ride_pricing.workspace import CHANGES, TEMPLATE
from tests.integration.suites import Kept, reading


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of each version, by the very code of its pipeline."""
    city, folder = City(), tmp_path_factory.mktemp("features")
    rides, weather = city.rides().to_pandas(), city.weather().to_pandas()
    events = pd.read_csv(io.StringIO(city.calendar()), parse_dates=["start"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pandas' own, of how it is spelt
        for name, at in (("v1", TEMPLATE), ("v2", CHANGES / "v2"), ("v3", CHANGES / "v3")):
            code = runpy.run_path(str(at / "pipeline/features.py"))
            frame = code["features"](rides, weather, events)
            coming = frame["hour"] > rides["slot"].max()
            (folder / name).mkdir()
            code["write"](frame[~coming].dropna(), folder / name / "history.parquet")
            code["write"](frame[coming].drop(columns="rides"), folder / name / "coming.parquet")
    return folder


@pytest.fixture(scope="module")
def pricing_examiner(made: Path) -> Examiner:
    from ebbtide.adapters.system.file import find_system

    file = find_system("ride-pricing", TEMPLATE / "configs/systems")
    layers: Any = {"features": Kept(made)}
    return Examiner(layers, file.layers.data, file.layers.features, file.at)


def test_the_rides_meet_their_suite_and_doubled_counts_do_not() -> None:
    asked, rides = read_suite(TEMPLATE / "configs/gates/rides.yaml"), City().rides()
    assert examine(asked, reading(rides)).passed
    twice = examine(asked, reading(pa.concat_tables([rides, rides.slice(0, 100)])))
    assert twice.verdict is Verdict.FAILED and "expect_compound" in twice.why


@pytest.mark.parametrize(("version", "passes"), [("v1", True), ("v2", True), ("v3", False)])
def test_the_features_of_honest_pipelines_meet_their_suite(
    pricing_examiner: Examiner, version: str, passes: bool
) -> None:
    finding = pricing_examiner.examine_features(Pin("demand", version))
    assert finding.passed is passes, finding.why
    assert passes or "rides_last_week" in finding.why


def test_another_unit_under_the_same_names_is_not_distributed_as_before(
    pricing_examiner: Examiner,
) -> None:
    good, bad = Pin("demand", "v2"), Pin("demand", "v3")
    finding = pricing_examiner.compare_features(bad, good)
    assert finding.verdict is Verdict.FAILED
    assert "rides_last_week" in finding.why and "visitors" not in finding.why
