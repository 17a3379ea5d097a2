"""Is a column distributed as before? Effect sizes decide, and nothing passes for want of data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from ebbtide.adapters.statistics.distribution import (
    SAMPLED,
    Incomparable,
    OtherKind,
    corrected,
    distance,
)
from ebbtide.adapters.statistics.likeness import compare_folders
from ebbtide.adapters.system.things import Like
from ebbtide.core.errors import Refused
from ebbtide.core.gates import Finding, Verdict

RNG = np.random.default_rng


def column(values: Any) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, from_pandas=False)])


def normal(seed: int, rows: int = 4000, mean: float = 0.0) -> Any:
    return RNG(seed).normal(mean, 1.0, rows)


def write(folder: Path, columns: Mapping[str, Any], name: str = "part") -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(dict(columns)), folder / f"{name}.parquet")
    return folder


def compared(
    tmp_path: Path, before: Mapping[str, Any], after: Mapping[str, Any], **like: Any
) -> Finding:
    folders = write(tmp_path / "before", before), write(tmp_path / "after", after)
    return compare_folders(*folders, Like(**like))


# Distances


def test_numbers_are_as_far_apart_as_scipy_says() -> None:
    one, other = normal(1, 3000), normal(2, 2500, mean=0.4)
    found = distance(column(one), column(other))
    assert found and found.numbers == pytest.approx(float(ks_2samp(one, other).statistic))


def test_shares_of_values_are_as_far_apart_as_scipy_says() -> None:
    one, other = ["a"] * 30 + ["b"] * 70, ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    found = distance(column(one), column(other))
    expected = jensenshannon([0.3, 0.7, 0.0], [0.6, 0.3, 0.1], base=2)
    assert found and found.shares == pytest.approx(float(expected)) and found.numbers is None


def test_numbers_that_have_nothing_in_common_are_at_distance_one() -> None:
    found = distance(column(normal(1)), column(normal(2) + 1000))
    assert found and found.numbers == 1.0 and found.shares == pytest.approx(1.0, abs=0.05)


def test_a_spike_shows_in_the_shares_where_the_distance_of_numbers_is_small() -> None:
    values = normal(1, 20_000)
    spiked = np.where(RNG(2).random(20_000) < 0.18, np.round(values, 0), values)
    found = distance(column(values), column(spiked))
    assert found and found.numbers is not None
    assert found.numbers < 0.1 < found.shares


def test_the_same_question_has_the_same_answer_on_many_rows() -> None:
    one, other = column(normal(1, 3 * SAMPLED)), column(normal(2, 3 * SAMPLED))
    assert distance(one, other) == distance(one, other)


def test_rare_texts_are_counted_together() -> None:
    one = [f"id-{n}" for n in range(5000)]
    found = distance(column(one), column([f"key-{n}" for n in range(5000)]))
    assert found and 0 <= found.shares <= 1 and found.p == found.p


def test_encodings_of_the_same_text_are_no_difference() -> None:
    text = pa.chunked_array([pa.array(["a", "b", "a"] * 50)])
    for other in (text.dictionary_encode(), text.cast(pa.large_string())):
        found = distance(text, other)
        assert found and found.shares == 0.0


NAN = float("nan")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [1.0]),
        ([1.0], []),
        ([NAN, NAN], [1.0, 2.0]),
        ([1.0, 2.0], [NAN, None]),
        ([1.0, 2.0], [float("inf"), float("-inf")]),
        (["a"], pa.array([None], pa.string())),
    ],
    ids=["none-before", "none-now", "nan-before", "nan-and-null", "infinite", "null-text"],
)
def test_nothing_can_be_said_of_nothing(before: Any, after: Any) -> None:
    typed = pa.float64() if not before or isinstance(before[0], float) else pa.string()
    with pytest.raises(Incomparable):
        distance(*(pa.chunked_array([pa.array(each, typed)]) for each in (before, after)))


def test_another_kind_of_column_is_no_match() -> None:
    with pytest.raises(OtherKind, match=r"string.*double"):
        distance(column([1.0]), column(["1.0"]))


def test_times_and_lists_are_not_compared() -> None:
    times = pa.chunked_array([pa.array([1, 2], pa.timestamp("us"))])
    assert distance(times, times) is None
    assert distance(column([[1.0]]), column([[2.0]])) is None


def test_of_many_columns_alike_chance_picks_out_none() -> None:
    """Uncorrected, some of 200 come out below 0.05."""
    ps = [float(ks_2samp(normal(n, 300), normal(1000 + n, 300)).pvalue) for n in range(200)]
    assert sum(p < 0.05 for p in ps) >= 3
    assert not [p for p in corrected(ps) if p < 0.05]


# Folders of features


def test_another_draw_of_the_same_features_is_like_before(tmp_path: Path) -> None:
    zones = np.array(["east", "west", "north"])
    before = {"x": normal(1), "zone": zones[RNG(3).integers(0, 3, 4000)]}
    after = {"x": normal(2), "zone": zones[RNG(4).integers(0, 3, 4000)]}
    assert compared(tmp_path, before, after).passed


def test_a_great_many_rows_make_no_small_difference_a_great_one(tmp_path: Path) -> None:
    one, other = normal(1, 200_000), normal(2, 200_000, mean=0.05)
    assert ks_2samp(one, other).pvalue < 1e-6
    assert compared(tmp_path, {"x": one}, {"x": other}).passed


def test_another_unit_fails_and_is_named(tmp_path: Path) -> None:
    before = {"rides": RNG(1).poisson(20, 3000) * 1.0, "x": normal(1, 3000)}
    finding = compared(tmp_path, before, {**before, "rides": before["rides"] * 4})
    assert finding.verdict is Verdict.FAILED
    assert "rides (distance" in finding.why and "x (" not in finding.why
    assert finding.measured["columns"]["rides"]["numbers"] > 0.9


def test_other_shares_of_a_category_fail(tmp_path: Path) -> None:
    before, after = ["a"] * 500 + ["b"] * 500, ["a"] * 900 + ["b"] * 100
    assert compared(tmp_path, {"kind": before}, {"kind": after}).verdict is Verdict.FAILED


def test_with_too_few_rows_a_great_distance_is_inconclusive(tmp_path: Path) -> None:
    finding = compared(tmp_path, {"x": [1.0, 2.0, 3.0]}, {"x": [2.5, 3.5, 4.5]})
    assert finding.verdict is Verdict.INCONCLUSIVE and "too few rows" in finding.why


def test_more_values_that_are_missing_fail(tmp_path: Path) -> None:
    gaps = normal(2)
    gaps[:400] = NAN
    finding = compared(tmp_path, {"x": normal(1)}, {"x": gaps})
    assert finding.verdict is Verdict.FAILED and "missing values 0.10" in finding.why


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("value", [NAN, None], ids=["nan", "null"])
def test_a_column_of_nothing_is_not_passed(tmp_path: Path, side: str, value: Any) -> None:
    good = {"x": pa.array(normal(1)), "y": pa.array(normal(2))}
    bad = {**good, "y": pa.array([value] * 4000, pa.float64())}
    sides = (bad, good) if side == "before" else (good, bad)
    finding = compared(tmp_path, *sides)
    assert finding.verdict is Verdict.INCONCLUSIVE and "y: every value is missing" in finding.why


def test_no_rows_are_not_passed(tmp_path: Path) -> None:
    finding = compared(tmp_path, {"x": normal(1)}, {"x": pa.array([], pa.float64())})
    assert finding.verdict is Verdict.INCONCLUSIVE


def test_no_files_are_not_passed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    before = write(tmp_path / "before", {"x": normal(1)})
    for pair in ((before, tmp_path / "empty"), (tmp_path / "empty", before)):
        assert compare_folders(*pair, Like()).verdict is Verdict.INCONCLUSIVE


def test_columns_that_changed_in_between_fail(tmp_path: Path) -> None:
    before = {"x": normal(1), "y": normal(2)}
    gone = compared(tmp_path, before, {"x": normal(1)})
    assert gone.verdict is Verdict.FAILED and "now x; then x, y" in gone.why
    typed = compared(tmp_path, before, {**before, "y": [str(y) for y in before["y"]]})
    assert typed.verdict is Verdict.FAILED and "it is string, and was double" in typed.why


def test_nothing_that_can_be_compared_is_not_passed(tmp_path: Path) -> None:
    times = {"at": pa.array([1, 2], pa.timestamp("us"))}
    assert compared(tmp_path, times, times).verdict is Verdict.INCONCLUSIVE
    left_out = compared(tmp_path, {"x": normal(1)}, {"x": normal(1)}, leave_out=["x"])
    assert left_out.verdict is Verdict.INCONCLUSIVE


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    before = write(tmp_path / "before", {"x": normal(1)})
    after = write(tmp_path / "after", {"x": normal(1)})
    (after / "part.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(Refused, match=r"part\.parquet cannot be read"):
        compare_folders(before, after, Like())


def test_parts_with_other_names_are_the_same_table(tmp_path: Path) -> None:
    x = normal(1)
    before = write(tmp_path / "before", {"x": x}, "part-0")
    after = write(tmp_path / "after", {"x": x[:1500]}, "one")
    write(after, {"x": x[1500:]}, "two")
    finding = compare_folders(before, after, Like())
    assert finding.passed and finding.measured["columns"]["x"]["numbers"] == 0.0


def test_a_limit_of_its_own_lets_a_column_go_further(tmp_path: Path) -> None:
    before, after = {"rain": normal(1)}, {"rain": normal(2, mean=0.9)}
    assert compared(tmp_path, before, after).verdict is Verdict.FAILED
    assert compared(tmp_path, before, after, columns={"rain": 0.6}).passed
