"""Suites asked of tables by time travel and of kept features: real Delta and Parquet."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta.tables import Tables
from ebbtide.adapters.expectations.examining import Examiner
from ebbtide.adapters.system.things import DataThing, FeaturesThing
from ebbtide.core.gates import Verdict
from ebbtide.core.release import Pin
from tests.integration.suites import BETWEEN, Kept


@pytest.fixture
def examiner(tmp_path: Path) -> Examiner:
    gates = tmp_path / "configs/gates"
    gates.mkdir(parents=True)
    text = f"expectations:\n- {{type: {BETWEEN}, kwargs: {{column: rides, min_value: 0}}}}\n"
    for name in ("rides", "demand"):
        (gates / f"{name}.yaml").write_text(f"name: {name}\n{text}")
    tables = {
        "rides": DataThing(path="rides", role="training", suite="rides"),
        "bare": DataThing(path="rides", role="training"),
        "lost": DataThing(path="rides", role="training", suite="nowhere"),
    }
    features = {
        "demand": FeaturesThing(out="data/features", link="live/features", suite="demand"),
    }
    layers: Any = {
        "data": Tables(tables, lambda path: tmp_path / path),
        "features": Kept(tmp_path / "kept"),
    }
    return Examiner(layers, tables, features, lambda path: tmp_path / path)


def _pinned(examiner: Examiner, name: str, version: int) -> Pin:
    return examiner._layers["data"].pin(name, str(version))


def test_an_old_version_is_looked_at_by_time_travel(examiner: Examiner, tmp_path: Path) -> None:
    path = tmp_path / "rides"
    for rows in ([3, 4], [-3, 4], [5, 6]):
        write_deltalake(path, pa.table({"rides": rows, "tip": [0.1, 0.2]}), mode="overwrite")
    verdicts = [examiner.examine_table(_pinned(examiner, "rides", n)).verdict for n in range(3)]
    assert verdicts == [Verdict.PASSED, Verdict.FAILED, Verdict.PASSED]
    table = DeltaTable(path)
    assert table.version() == 2 and table.to_pandas()["rides"].tolist() == [5, 6], "nothing moved"


def test_a_version_with_another_schema_is_not_passed(examiner: Examiner, tmp_path: Path) -> None:
    path = tmp_path / "rides"
    write_deltalake(path, pa.table({"count": [3, 4]}))
    write_deltalake(path, pa.table({"rides": [3, 4]}), mode="overwrite", schema_mode="overwrite")
    old = examiner.examine_table(_pinned(examiner, "rides", 0))
    assert old.verdict is Verdict.FAILED and "no column rides" in old.why
    assert examiner.examine_table(_pinned(examiner, "rides", 1)).passed


def test_an_empty_version_is_not_passed(examiner: Examiner, tmp_path: Path) -> None:
    schema = pa.schema([("rides", pa.int64())])
    write_deltalake(tmp_path / "rides", schema.empty_table())
    finding = examiner.examine_table(_pinned(examiner, "rides", 0))
    assert finding.verdict is Verdict.FAILED and "0 rows" in finding.why


def test_a_version_that_cannot_be_read_is_errored(examiner: Examiner, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "rides", pa.table({"rides": [3]}))
    pin = _pinned(examiner, "rides", 0)
    for file in (tmp_path / "rides").glob("*.parquet"):
        file.unlink()
    finding = examiner.examine_table(pin)
    assert finding.verdict is Verdict.ERRORED and "rides" in finding.why and finding.remedy


def test_a_suite_that_is_missing_is_errored_and_one_not_asked_for_is_told(
    examiner: Examiner, tmp_path: Path
) -> None:
    write_deltalake(tmp_path / "rides", pa.table({"rides": [3]}))
    assert examiner.examine_table(_pinned(examiner, "lost", 0)).verdict is Verdict.ERRORED
    bare = examiner.examine_table(_pinned(examiner, "bare", 0))
    assert bare.passed and "names no suite" in bare.why
    assert not examiner.examine_table(Pin("unknown", "0" * 64, {"version": "0"})).passed


def test_a_suite_that_was_changed_is_asked_anew(examiner: Examiner, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "rides", pa.table({"rides": [3]}))
    pin = _pinned(examiner, "rides", 0)
    assert examiner.examine_table(pin).passed
    file = tmp_path / "configs/gates/rides.yaml"
    file.write_text(file.read_text().replace("min_value: 0", "min_value: 5"))
    assert examiner.examine_table(pin).verdict is Verdict.FAILED


def test_kept_features_are_looked_at_as_one_table(examiner: Examiner, tmp_path: Path) -> None:
    folder = tmp_path / "kept/one/parts"
    folder.mkdir(parents=True)
    for n, rows in enumerate(([1, 2], [-3, 4])):
        pq.write_table(pa.table({"rides": rows}), folder / f"{n}.parquet")
    finding = examiner.examine_features(Pin("demand", "one"))
    assert finding.verdict is Verdict.FAILED and "1 of 4 values, such as -3" in finding.why
    (tmp_path / "kept/two").mkdir()
    nothing = examiner.examine_features(Pin("demand", "two"))
    assert nothing.verdict is Verdict.ERRORED and "no Parquet file" in nothing.why


def test_features_that_are_gone_cannot_be_compared(examiner: Examiner, tmp_path: Path) -> None:
    (tmp_path / "kept/one").mkdir(parents=True)
    pq.write_table(pa.table({"rides": [1, 2]}), tmp_path / "kept/one/part.parquet")
    one, gone = Pin("demand", "one"), Pin("demand", "gone")
    assert examiner.compare_features(one, one).passed
    assert "gone is gone" in examiner.compare_features(one, gone).why
    assert not examiner.compare_features(gone, one).passed


def test_features_of_an_older_release_are_kept_again_to_be_compared(
    examiner: Examiner, tmp_path: Path
) -> None:
    rows = pa.table({"rides": list(range(100))})
    for place in ("new", "away/old"):
        (tmp_path / "kept" / place).mkdir(parents=True)
        pq.write_table(rows, tmp_path / "kept" / place / "part.parquet")
    finding = examiner.compare_features(Pin("demand", "new"), Pin("demand", "old"))
    assert finding.passed, finding.why


def test_no_comparison_is_made_where_none_is_asked_for(examiner: Examiner) -> None:
    asked = examiner._features["demand"].model_copy(update={"like": None})
    examiner._features["demand"] = asked
    finding = examiner.compare_features(Pin("demand", "new"), Pin("demand", "old"))
    assert finding.passed and "asks for no comparison" in finding.why
