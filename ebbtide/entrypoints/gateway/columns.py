"""The DataFrame of a request by its columns, where the signature leaves no doubt.

MLflow's parser makes a frame of Python objects and then casts it column by column:
most of a millisecond for one row. Where each value has the very type that its column
wants, the same frame is made here at once. Whatever is different (a missing value, an
integer for a float32, a column more or less) is left to MLflow's parser, so that
nothing is read otherwise and every error is MLflow's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TAKES: Mapping[str, tuple[frozenset[type], str]] = {
    "double": (frozenset({float, int}), "float64"),
    "float": (frozenset({float}), "float32"),
    "long": (frozenset({int}), "int64"),
    "integer": (frozenset({int}), "int32"),
    "boolean": (frozenset({bool}), "bool"),
    "string": (frozenset({str}), ""),
}
"""By MLflow's type: the exact Python types, and numpy's type; empty: pandas decides."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that a signature names, all of them required."""

    names: tuple[str, ...]
    takes: tuple[frozenset[type], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, schema: Any) -> "Columns | None":
        """None for a signature that is not of plain, named, required columns."""
        if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
            return None
        names = tuple(schema.input_names())
        kinds = [_TAKES.get(str(getattr(kind, "name", ""))) for kind in schema.input_types()]
        known = [kind for kind in kinds if kind]
        plain = len(known) == len(names) == len(set(names))
        if not names or not plain or set(schema.required_input_names()) != set(names):
            return None
        return cls(names, tuple(kind[0] for kind in known), tuple(kind[1] for kind in known))

    def frame(self, form: str, given: Any) -> Any:
        """The frame of `dataframe_records` or `dataframe_split`; None: leave it to MLflow."""
        if form == "dataframe_records":
            rows = self._records(given)
        elif form == "dataframe_split":
            rows = self._split(given)
        else:
            return None
        if not rows or not all(map(self._fits, zip(*rows, strict=True), self.takes)):
            return None
        try:
            return self._made(rows)
        except (OverflowError, ValueError):
            return None

    def _records(self, given: Any) -> list[tuple[Any, ...]] | None:
        if not isinstance(given, list):
            return None
        width, rows = len(self.names), []
        for record in given:
            if not isinstance(record, dict) or len(record) != width:
                return None
            try:
                rows.append(tuple([record[name] for name in self.names]))
            except KeyError:
                return None
        return rows

    def _split(self, given: Any) -> list[tuple[Any, ...]] | None:
        if not isinstance(given, dict) or given.keys() != {"columns", "data"}:
            return None
        names, data = given["columns"], given["data"]
        width = len(self.names)
        if not isinstance(names, list) or not isinstance(data, list) or len(names) != width:
            return None
        if not all(isinstance(row, list) and len(row) == width for row in data):
            return None
        try:
            order = [names.index(name) for name in self.names]
        except ValueError:
            return None
        return [tuple([row[at] for at in order]) for row in data]

    def _fits(self, column: Sequence[Any], takes: frozenset[type]) -> bool:
        return takes.issuperset(map(type, column))

    def _made(self, rows: list[tuple[Any, ...]]) -> Any:
        import numpy as np
        import pandas as pd

        if len(set(self.dtypes)) == 1 and self.dtypes[0]:
            return pd.DataFrame(np.array(rows, dtype=self.dtypes[0]), columns=list(self.names))
        columns = zip(self.names, self.dtypes, zip(*rows, strict=True), strict=True)
        return pd.DataFrame(
            {
                name: np.array(values, dtype=dtype) if dtype else list(values)
                for name, dtype, values in columns
            }
        )
