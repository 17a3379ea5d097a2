"""Suites for tests, and tables to ask them of."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ebbtide.adapters.expectations.suites import Suite
from ebbtide.core.errors import NotRestorable
from ebbtide.core.release import Pin

ROWS = pa.table(
    {
        "rides": [3, 5, 0, 8],
        "zone": ["east", "west", "east", None],
        "rain": [0.0, 1.5, None, 2.0],
        "void": pa.array([None] * 4, pa.float64()),
        "nan": [float("nan")] * 4,
    }
)
BETWEEN = "expect_column_values_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"


def suite(*expectations: tuple[str, Mapping[str, Any]], **keys: Any) -> Suite:
    asked = [{"type": type_, "kwargs": dict(kwargs)} for type_, kwargs in expectations]
    return Suite.model_validate({"name": "asked", "expectations": asked, **keys})


def reading(table: pa.Table, seen: list[Sequence[str] | None] | None = None) -> Callable[..., Any]:
    def read(columns: Sequence[str] | None) -> pa.Table:
        if seen is not None:
            seen.append(columns)
        there = table.column_names
        return table.select([name for name in there if columns is None or name in columns])

    return read


class Kept:
    """Folders of features, by the digest of their pin; some have to be fetched first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, pin: Pin) -> Path:
        return self.folder / pin.digest

    def prepare(self, pin: Pin) -> None:
        away = self.folder / "away" / pin.digest
        if not away.is_dir():
            raise NotRestorable(f"{pin.digest} is gone.")
        away.rename(self.path(pin))
