"""Suites: what is expected of data, as a file, and whether a table meets it.

Great Expectations fails open in many ways: it logs and drops an expectation of
a mistyped name, and an empty suite, an empty table, a column of nulls only, a
bound that is null or a `mostly` of 0 all pass. Here none of these does. What
cannot be checked is inconclusive or errored.

Limit: the columns that one expectation names must fit into memory together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isinf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from ebbtide.adapters.expectations.validation import validated
from ebbtide.adapters.system.plain_yaml import plain_yaml
from ebbtide.adapters.system.things import NAME, Strict
from ebbtide.core.digests import bytes_digest
from ebbtide.core.errors import BadConfiguration
from ebbtide.core.gates import Finding, failed, inconclusive, passed, worst

if TYPE_CHECKING:
    import pyarrow as pa

Read = Callable[[Sequence[str] | None], "pa.Table"]
"""Reads all rows of these columns, as far as they are there; None: of all columns."""

_COLUMNS = ("column", "column_A", "column_B", "column_list")
"""Where an expectation names the columns that it is about."""
_NARROW = ("expect_column_", "expect_multicolumn_", "expect_compound_", "expect_select_")
"""Expectations of these kinds need no other column than those that they name."""
_ROW_COUNT = "expect_table_row_count_to_"
_NULLS_MEANT = ("expect_column_values_to_be_null",)


class Expectation(Strict):
    """One expectation of Great Expectations, by the name and arguments that it has there."""

    type: Annotated[str, Field(pattern=r"^(expect|unexpected)_[a-zA-Z_]+$")]
    """Its name in Great Expectations, such as `expect_column_values_to_be_between`."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Its arguments. None may be null: leave an argument out instead."""

    @field_validator("kwargs")
    @classmethod
    def _demands_something(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        empty = [name for name, value in kwargs.items() if _says_nothing(value)]
        if empty:
            raise ValueError(f"`{empty[0]}` is null, NaN or empty: it would demand nothing")
        mostly = kwargs.get("mostly", 1.0)
        if isinstance(mostly, bool) or not isinstance(mostly, int | float) or not 0 < mostly <= 1:
            raise ValueError("`mostly` is a share: more than 0, at most 1")
        return kwargs

    @model_validator(mode="after")
    def _bounded(self) -> "Expectation":
        limits = [self.kwargs[name] for name in ("min_value", "max_value") if name in self.kwargs]
        meant = self.type.endswith("_between") and "quantile_ranges" not in self.kwargs
        if meant and all(isinstance(limit, float) and isinf(limit) for limit in limits):
            raise ValueError(f"`{self.type}` needs `min_value` or `max_value`, and finite")
        return self

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that it needs; None where that may be all of them."""
        if self.type.startswith(_ROW_COUNT):
            return ()
        named = _named(self)
        if not self.type.startswith(_NARROW) or not named or "row_condition" in self.kwargs:
            return None
        return tuple(sorted(set(named)))

    def __str__(self) -> str:
        about = ", ".join(_named(self))
        return f"{self.type}({about})" if about else self.type


class Suite(Strict):
    """A suite of expectations: `configs/gates/<name>.yaml`."""

    name: Annotated[str, Field(pattern=NAME)]
    """The name of its file."""
    rows_at_least: Annotated[int, Field(ge=1)] = 1
    """Rows that there must be."""
    files: Annotated[str, Field(pattern=r"^[^/].*$")] = "*.parquet"
    """Of features: which files of the folder, by a pattern. Together they are one table."""
    expectations: Annotated[list[Expectation], Field(min_length=1)]
    """Everything that must hold."""

    @model_validator(mode="after")
    def _each_once(self) -> "Suite":
        twice = [each for n, each in enumerate(self.expectations) if each in self.expectations[:n]]
        if twice:
            raise ValueError(f"{twice[0]} is there twice")
        return self

    @cached_property
    def digest(self) -> str:
        """sha256 of what it says."""
        return bytes_digest(self.model_dump_json().encode())


def read_suite(path: Path) -> Suite:
    """Read and check a suite. Raises `BadConfiguration` that names every fault."""
    data = plain_yaml(path)
    try:
        found = Suite.model_validate(data)
    except ValidationError as fault:
        faults = "\n".join(
            f"  {'.'.join(str(part) for part in error['loc']) or 'suite'}: {error['msg']}"
            for error in fault.errors()
        )
        raise BadConfiguration(f"{path} is no suite of expectations:\n{faults}") from fault
    if found.name != path.stem:
        raise BadConfiguration(f"{path} describes `{found.name}`: name it {found.name}.yaml.")
    return found


def examine(suite: Suite, read: Read) -> Finding:
    """Whether what `read` gives meets the suite.

    Read in parts: the columns of one expectation at a time, each with all of
    its rows, for a mean or a unique key cannot be had from batches of rows.
    Raises `BadConfiguration` for an expectation that does not exist.
    """
    found: list[Finding] = []
    rows = 0
    for part in _parts(suite):
        table = read(part.columns)
        rows = table.num_rows
        found += _examined(suite, part, table)
    finding = worst(found)
    measured = {"suite": suite.name, "rows": rows, "expectations": len(suite.expectations)}
    if finding.passed:
        return passed(
            f"{rows} rows meet the {len(suite.expectations)} expectations of {suite.name}",
            **measured,
        )
    failures = [each for one in found for each in one.measured.get("failing", ())]
    return Finding(
        finding.verdict,
        f"{finding.why} (suite {suite.name}, {rows} rows)",
        {**measured, "failing": failures},
        finding.remedy,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """Expectations that need the same columns; None: all."""

    columns: tuple[str, ...] | None
    expectations: tuple[Expectation, ...]


def _parts(suite: Suite) -> Iterator[_Part]:
    """The suite's expectations by the columns that they need; all at once where one needs all."""
    by_columns: dict[tuple[str, ...] | None, list[Expectation]] = {}
    for each in suite.expectations:
        by_columns.setdefault(each.columns, []).append(each)
    if None in by_columns:
        yield _Part(None, tuple(suite.expectations))
        return
    counts = by_columns.pop((), [])
    if not by_columns:
        yield _Part(None, tuple(counts))
        return
    for n, (columns, expectations) in enumerate(by_columns.items()):
        yield _Part(columns, tuple(expectations if n else [*counts, *expectations]))


def _examined(suite: Suite, part: _Part, table: "pa.Table") -> list[Finding]:
    named = {column for each in part.expectations for column in _named(each)}
    missing = sorted(named - set(table.column_names))
    if missing:
        remedy = "The schema is another: choose a version that has what the suite describes."
        return [failed(f"there is no column {', '.join(missing)}", remedy=remedy)]
    if table.num_rows < suite.rows_at_least:
        return [failed(f"{table.num_rows} rows are fewer than {suite.rows_at_least}")]
    void = [column for column in sorted(named) if _is_void(table, column, part.expectations)]
    if void:
        return [inconclusive(f"every value of {', '.join(void)} is missing: nothing was checked")]
    return validated(part.expectations, table)


def _named(expectation: Expectation) -> list[str]:
    """The columns that it names, in the order of its arguments."""
    found = [expectation.kwargs[name] for name in _COLUMNS if name in expectation.kwargs]
    return [
        str(column) for each in found for column in (each if isinstance(each, list) else [each])
    ]


def _is_void(table: "pa.Table", column: str, expectations: Sequence[Expectation]) -> bool:
    """No value at all where one is expected: NaN and null alike."""
    about = [each for each in expectations if column in _named(each)]
    if all(each.type in _NULLS_MEANT for each in about):
        return False
    return bool(table[column].is_null(nan_is_null=True).to_numpy().all())


def _says_nothing(value: Any) -> bool:
    """Null, NaN, or nothing in it, however deep."""
    if isinstance(value, Mapping):
        return not value or any(_says_nothing(each) for each in value.values())
    if isinstance(value, list):
        return not value or any(each != "" and _says_nothing(each) for each in value)
    return value is None or value == "" or (isinstance(value, float) and isnan(value))
