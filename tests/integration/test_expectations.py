"""Suites on real Great Expectations: what it lets through is not passed here."""

import json
import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from ebbtide.adapters.expectations import validation
from ebbtide.adapters.expectations.suites import examine
from ebbtide.core.errors import BadConfiguration
from ebbtide.core.gates import Finding, Verdict
from tests.integration.suites import BETWEEN, NOT_NULL, ROWS, reading, suite


def found(*expectations: tuple[str, Mapping[str, Any]], table: pa.Table = ROWS) -> Finding:
    return examine(suite(*expectations), reading(table))


def library_says(frame: pd.DataFrame, *expectations: Mapping[str, Any]) -> bool:
    """What Great Expectations says of the same when it is asked without care."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations as gx
    data = gx.get_context(mode="ephemeral").data_sources.add_pandas("data")
    whole = data.add_dataframe_asset("table").add_batch_definition_whole_dataframe("whole")
    batch = whole.get_batch({"dataframe": frame})
    asked = gx.ExpectationSuite(name="asked", expectations=[*expectations])  # type: ignore[list-item]  # it takes these too
    return bool(batch.validate(asked).success)


def test_rows_that_are_as_expected_pass() -> None:
    finding = found((BETWEEN, {"column": "rides", "min_value": 0}), (NOT_NULL, {"column": "rides"}))
    assert finding.passed and finding.measured == {"suite": "asked", "rows": 4, "expectations": 2}


def test_every_expectation_that_does_not_hold_is_named_with_its_figures() -> None:
    finding = found(
        (BETWEEN, {"column": "rides", "min_value": 1, "max_value": 5}),
        (NOT_NULL, {"column": "zone"}),
        ("expect_column_mean_to_be_between", {"column": "rides", "max_value": 3.5}),
        (BETWEEN, {"column": "rain", "min_value": 0}),
    )
    assert finding.verdict is Verdict.FAILED
    failing = {each["expectation"]: each for each in finding.measured["failing"]}
    assert failing[f"{BETWEEN}(rides)"]["unexpected_count"] == 2
    assert failing["expect_column_mean_to_be_between(rides)"]["observed_value"] == 4.0
    assert set(failing) >= {f"{NOT_NULL}(zone)"} and len(failing) == 3
    assert "2 of 4 values, such as 0, 8" in finding.why
    assert json.dumps(finding.measured, allow_nan=False), "the journal keeps it as JSON"


def test_the_same_expectation_with_other_arguments_is_another_one() -> None:
    between = [{"column": "rides", "min_value": low} for low in (0, 4, 0.5)]
    finding = found(*((BETWEEN, each) for each in between))
    assert [each["unexpected_count"] for each in finding.measured["failing"]] == [2, 1]


def test_text_that_is_not_expected_is_counted_and_not_told() -> None:
    finding = found(
        ("expect_column_values_to_be_in_set", {"column": "zone", "value_set": ["east"]})
    )
    assert finding.verdict is Verdict.FAILED
    assert "west" not in str(finding.why) + str(finding.measured)


def test_a_truth_of_numpys_is_a_truth() -> None:
    """The library's own checkpoint raises on it."""
    ranges = {"quantiles": [0.5], "value_ranges": [[3, 5]]}
    about = {"column": "rides", "quantile_ranges": ranges}
    assert found(("expect_column_quantile_values_to_be_between", about)).passed
    ranges["value_ranges"] = [[30, 50]]
    finding = found(("expect_column_quantile_values_to_be_between", about))
    assert finding.verdict is Verdict.FAILED


def test_a_table_is_looked_at_whole_where_an_expectation_is_about_its_columns() -> None:
    match = "expect_table_columns_to_match_set"
    about = {"column_set": ["rides"], "exact_match": True}
    finding = found((NOT_NULL, {"column": "rides"}), (match, about))
    assert finding.verdict is Verdict.FAILED, "the other columns must not be left unread"


def test_only_the_columns_that_an_expectation_names_are_read_at_a_time() -> None:
    seen: list[Sequence[str] | None] = []
    asked = suite(
        ("expect_table_row_count_to_be_between", {"min_value": 2}),
        (NOT_NULL, {"column": "rides"}),
        (BETWEEN, {"column": "rides", "min_value": 0}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["zone", "rides"]}),
    )
    assert examine(asked, reading(ROWS, seen)).passed
    assert seen == [("rides",), ("rides", "zone")]


@pytest.mark.parametrize("rows", [ROWS.slice(0, 0), ROWS.slice(0, 2)], ids=["empty", "too few"])
def test_too_few_rows_are_not_passed(rows: pa.Table) -> None:
    about = {"column": "rides", "min_value": 0}
    assert library_says(rows.to_pandas(), {"type": BETWEEN, "kwargs": about})
    finding = examine(suite((BETWEEN, about), rows_at_least=3), reading(rows))
    assert finding.verdict is Verdict.FAILED and "fewer than 3" in finding.why


@pytest.mark.parametrize("column", ["void", "nan"])
def test_a_column_without_a_value_is_not_passed(column: str) -> None:
    about = {"column": column, "min_value": 0, "max_value": 1}
    assert library_says(ROWS.to_pandas(), {"type": BETWEEN, "kwargs": about})
    assert found((BETWEEN, about)).verdict is Verdict.INCONCLUSIVE
    assert found(("expect_column_values_to_be_null", {"column": column})).passed, "unless meant so"


def test_a_figure_of_a_column_without_a_value_is_not_passed() -> None:
    count = "expect_column_unique_value_count_to_be_between"
    about = {"column": "void", "max_value": 5}
    assert library_says(ROWS.to_pandas(), {"type": count, "kwargs": about})
    assert found((count, about)).verdict is Verdict.INCONCLUSIVE


def test_an_expectation_that_does_not_exist_is_not_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.CRITICAL):
        assert library_says(
            ROWS.to_pandas(),
            {"type": NOT_NULL, "kwargs": {"column": "rides"}},
            {"type": "expect_column_values_to_be_betwen", "kwargs": {"column": "rides"}},
        )
    with pytest.raises(BadConfiguration, match="betwen"):
        found((NOT_NULL, {"column": "rides"}), ("expect_column_values_to_be_betwen", {}))


def test_wrong_arguments_are_no_pass() -> None:
    with pytest.raises(BadConfiguration, match="wrong arguments"):
        found((BETWEEN, {"column": "rides", "min_value": 0, "maximum": 3}))


@pytest.mark.parametrize("condition", ["rides > 100", "rides > 4"])
def test_a_condition_that_leaves_no_row_is_not_passed(condition: str) -> None:
    where = {"row_condition": condition, "condition_parser": "pandas"}
    finding = found((BETWEEN, {"column": "rides", "min_value": 0, **where}))
    assert finding.passed is (condition == "rides > 4")
    mean = "expect_column_mean_to_be_between"
    assert not found((mean, {"column": "rides", "min_value": 0, **where})).passed


def test_what_raises_inside_is_errored() -> None:
    finding = found((BETWEEN, {"column": "zone", "min_value": 1}))
    assert finding.verdict is Verdict.ERRORED and "same type" in finding.why


@pytest.mark.parametrize("success", [None, 1, "true"], ids=repr)
def test_a_result_that_is_neither_yes_nor_no_is_errored(
    success: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = validation._results

    def odd(*given: Any) -> Any:
        results = real(*given)
        results[0].success = success
        return results

    monkeypatch.setattr(validation, "_results", odd)
    assert found((NOT_NULL, {"column": "rides"})).verdict is Verdict.ERRORED


def test_a_column_that_is_gone_fails_and_is_named() -> None:
    finding = found((NOT_NULL, {"column": "rides"}), (NOT_NULL, {"column": "tips"}))
    assert finding.verdict is Verdict.FAILED and "no column tips" in finding.why


def test_threads_never_pass_each_others_tables() -> None:
    """A context that six threads shared passed 11 bad tables of 180."""
    good, bad = ROWS, ROWS.set_column(0, "rides", pa.array([-1, 5, 0, 8]))
    asked = suite((BETWEEN, {"column": "rides", "min_value": 0}))
    verdicts: list[tuple[Verdict, Verdict]] = []

    def look(table: pa.Table, expected: Verdict) -> None:
        verdicts.extend((examine(asked, reading(table)).verdict, expected) for _ in range(8))

    threads = [
        threading.Thread(target=look, args=each)
        for each in 3 * [(good, Verdict.PASSED), (bad, Verdict.FAILED)]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verdicts) == 48 and all(verdict is expected for verdict, expected in verdicts)
