"""The fast frame is MLflow's own frame, or none at all."""

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from ebbtide.entrypoints.gateway.columns import Columns
from ebbtide.entrypoints.gateway.protocol import JSON, parse

KINDS = (
    DataType.double,
    DataType.float,
    DataType.long,
    DataType.integer,
    DataType.boolean,
    DataType.string,
)
VALUES = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(-(2**70), 2**70),
    some.integers(-100, 100),
    some.floats(),
    some.text(max_size=4),
    some.lists(some.integers(0, 3), max_size=2),
)
ROWS = some.lists(some.lists(VALUES, min_size=2, max_size=2), min_size=1, max_size=3)


def schema(*kinds: DataType) -> Schema:
    return Schema([ColSpec(kind, f"c{n}") for n, kind in enumerate(kinds)])


def asked(of: Schema, body: dict[str, Any]) -> Any:
    """What the model would be given by MLflow's parser alone."""
    try:
        return _enforce_schema(infer_and_parse_data(body, of), of)
    except (MlflowException, ValueError, TypeError, OverflowError) as fault:
        return type(fault)


@given(rows=ROWS, kinds=some.tuples(some.sampled_from(KINDS), some.sampled_from(KINDS)))
def test_the_model_is_given_what_mlflow_would_give_it(
    rows: list[list[Any]], kinds: tuple[DataType, DataType]
) -> None:
    of = schema(*kinds)
    columns = Columns.of(of)
    assert columns is not None
    records = [{"c1": row[1], "c0": row[0]} for row in rows]
    split = {"columns": ["c1", "c0"], "data": [row[::-1] for row in rows]}
    for body in ({"dataframe_records": records}, {"dataframe_split": split}):
        decoded = json.loads(json.dumps(body))
        ((form, content),) = decoded.items()
        frame = columns.frame(form, content)
        if frame is not None:
            expected = asked(of, decoded)
            assert isinstance(expected, pd.DataFrame), f"MLflow refuses {body}: {expected}"
            pd.testing.assert_frame_equal(_enforce_schema(frame, of), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_values_take_the_fast_way(kind: DataType) -> None:
    value = {DataType.boolean: True, DataType.string: "a"}.get(kind, 3)
    value = 1.5 if kind is DataType.float else value
    columns = Columns.of(schema(kind, kind))
    assert columns is not None
    row = {"c0": value, "c1": value}
    assert columns.frame("dataframe_records", [row, row]) is not None
    split = {"columns": ["c1", "c0"], "data": [[value, value]]}
    assert columns.frame("dataframe_split", split) is not None


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("dataframe_records", []),
        ("dataframe_records", {}),
        ("dataframe_records", [{"c0": 1.0}]),
        ("dataframe_records", [{"c0": 1.0, "c2": 1.0}]),
        ("dataframe_records", [{"c0": 1.0, "c1": 1.0, "c2": 1.0}]),
        ("dataframe_records", [{"c0": 1.0, "c1": None}]),
        ("dataframe_records", [{"c0": 1.0, "c1": True}]),
        ("dataframe_records", [[1.0, 2.0]]),
        ("dataframe_split", {"columns": ["c0", "c1"], "data": []}),
        ("dataframe_split", {"columns": ["c0", "c0"], "data": [[1.0, 2.0]]}),
        ("dataframe_split", {"columns": ["c0", "c1"], "data": [[1.0]]}),
        ("dataframe_split", {"columns": ["c0", "c1"], "data": [[1.0, 2.0]], "index": [7]}),
        ("dataframe_split", {"data": [[1.0, 2.0]]}),
        ("instances", [{"c0": 1.0, "c1": 1.0}]),
    ],
)
def test_whatever_is_not_plain_is_left_to_mlflow(form: str, content: Any) -> None:
    columns = Columns.of(schema(DataType.double, DataType.double))
    assert columns is not None
    assert columns.frame(form, content) is None


@pytest.mark.parametrize(
    "of",
    [
        None,
        Schema([ColSpec(DataType.double)]),
        Schema([ColSpec(DataType.double, "a", required=False)]),
        Schema([ColSpec(DataType.binary, "a")]),
        Schema([ColSpec(DataType.datetime, "a")]),
        Schema([ColSpec(Array(DataType.double), "a")]),
        Schema([TensorSpec(__import__("numpy").dtype("float64"), (-1, 2), "a")]),
    ],
)
def test_a_signature_that_is_not_plain_has_no_fast_way(of: Schema | None) -> None:
    assert Columns.of(of) is None


def test_a_request_takes_the_fast_way() -> None:
    of = schema(DataType.double, DataType.long)
    body = b'{"dataframe_records": [{"c0": 1, "c1": 2}], "params": {"p": 1}}'
    slow, fast = parse(JSON, body, of), parse(JSON, body, of, Columns.of(of))
    pd.testing.assert_frame_equal(slow.rows, fast.rows)
    assert slow.params == fast.params == {"p": 1}
