"""A suite's file: one that would demand nothing is refused."""

from pathlib import Path

import pytest

from ebbtide.adapters.expectations.suites import read_suite
from ebbtide.core.errors import BadConfiguration
from tests.integration.suites import BETWEEN, NOT_NULL


def test_a_suite_is_read_from_yaml(tmp_path: Path) -> None:
    text = f"name: rides\nexpectations:\n- {{type: {NOT_NULL}, kwargs: {{column: rides}}}}\n"
    (tmp_path / "rides.yaml").write_text(text)
    assert read_suite(tmp_path / "rides.yaml").rows_at_least == 1
    (tmp_path / "other.yaml").write_text(text)
    with pytest.raises(BadConfiguration, match=r"name it rides\.yaml"):
        read_suite(tmp_path / "other.yaml")
    with pytest.raises(BadConfiguration, match="cannot be read"):
        read_suite(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ("expectations: []", "at least 1 item"),
        ("rows_at_least: 3", "expectations"),
        ("[]", "no suite"),
        ("expectations: [{type: TYPE, kwargs: {column: a, min_value: null}}]", "null"),
        ("expectations: [{type: TYPE, kwargs: {column: a, min_value: .nan}}]", "NaN"),
        ("expectations: [{type: TYPE, kwargs: {column: a, min_value: -.inf}}]", "finite"),
        ("expectations: [{type: TYPE, kwargs: {column: a}}]", "needs `min_value`"),
        ("expectations: [{type: TYPE, kwargs: {column: a, min_value: 0, mostly: 0}}]", "share"),
        ("expectations: [{type: TYPE, kwargs: {column: a, min_value: 0, mostly: 2}}]", "share"),
        ("expectations: [{type: TYPE, kwargs: {column: '', min_value: 0}}]", "empty"),
        ("expectations: [{type: TYPE, kwargs: {column: a, min_value: 0}, when: 1}]", "when"),
        ("rows_at_least: 0\nexpectations: [{type: TYPE, kwargs: {min_value: 0}}]", "rows_at_least"),
        (
            "expectations: [" + 2 * "{type: TYPE, kwargs: {column: a, min_value: 0}}, " + "]",
            "twice",
        ),
    ],
)
def test_a_suite_that_would_demand_nothing_is_refused(
    tmp_path: Path, asked: str, fault: str
) -> None:
    head = "" if asked == "[]" else "name: rides\n"
    (tmp_path / "rides.yaml").write_text(head + asked.replace("TYPE", BETWEEN))
    with pytest.raises(BadConfiguration, match=fault):
        read_suite(tmp_path / "rides.yaml")
