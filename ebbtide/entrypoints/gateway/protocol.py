"""MLflow's scoring protocol: what a request asks, and how an error is told.

MLflow's own parser reads what is not plain, so that a client cannot tell the
difference; its stack traces stay here, in the log.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ebbtide.entrypoints.gateway.columns import Columns

JSON = "application/json"
CSV = "text/csv"
LARGEST = 16 * 1024 * 1024
"""Bytes of a request's body."""

_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_LONGEST_MESSAGE = 2000


class Refusal(Exception):
    """A request that is answered by an error. `kind` says whose fault it is, for metrics."""

    def __init__(self, status: int, code: str, message: str, kind: str = "request") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.body = orjson.dumps({"error_code": code, "message": message[:_LONGEST_MESSAGE]})


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks: a DataFrame, an array or arrays by name, and parameters."""

    rows: Any
    params: Mapping[str, Any] | None = None


def media_type(content_type: str) -> str:
    """The body's media type. Raises a `Refusal` (415) for what MLflow would not read."""
    kind, *parameters = [part.strip() for part in content_type.split(";")]
    given = dict(_pair(parameter) for parameter in parameters if parameter)
    if given.pop("charset", "utf-8").lower() != "utf-8":
        raise _unsupported("The scoring server only supports UTF-8")
    if given:
        raise _unsupported(f"Unrecognized content type parameters: {', '.join(sorted(given))}.")
    if kind not in (JSON, CSV):
        raise _unsupported(
            "This predictor only supports the following content types:"
            f" Types: {[CSV, JSON]}. Got '{content_type}'."
        )
    return kind


def parse(kind: str, body: bytes, schema: Any, columns: Columns | None = None) -> Question:
    """A body as the model is asked it. Raises a `Refusal` (400) that says what is wrong.

    `columns` are those of the schema, where they are plain: they make it faster.
    """
    from mlflow.exceptions import MlflowException

    try:
        return _from_csv(body, schema) if kind == CSV else _from_json(body, schema, columns)
    except MlflowException as fault:
        raise from_mlflow(fault, "request") from fault
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as fault:
        raise Refusal(400, "BAD_REQUEST", f"Invalid input. {fault}") from fault
    except RecursionError as fault:
        raise Refusal(400, "BAD_REQUEST", "Invalid input. It is nested too deeply.") from fault


def from_mlflow(fault: Any, kind: str) -> Refusal:
    """MLflow's error as MLflow's server would tell it."""
    return Refusal(fault.get_http_status_code(), fault.error_code, fault.message, kind)


def render(answers: list[Any]) -> bytes:
    """A response's body."""
    try:
        return orjson.dumps({"predictions": answers})
    except (TypeError, orjson.JSONEncodeError):
        # Integers of more than 64 bits, and surrogates.
        return json.dumps({"predictions": answers}, allow_nan=False).encode()


def _from_json(body: bytes, schema: Any, columns: Columns | None) -> Question:
    given = _decoded(body)
    params = given.get("params")
    if params is not None and not isinstance(params, dict):
        raise Refusal(400, "BAD_REQUEST", "Invalid input. `params` must be a dictionary.")
    data = {key: value for key, value in given.items() if key in _FORMATS}
    if not data:
        raise Refusal(
            400,
            "BAD_REQUEST",
            "The input must be a JSON dictionary with exactly one of the input fields"
            f" {set(_FORMATS)}. Received dictionary with input fields: {list(given)[:20]}.",
        )
    if columns is not None and len(data) == 1:
        ((form, asked),) = data.items()
        frame = columns.frame(form, asked)
        if frame is not None:
            return Question(frame, params)
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    return Question(infer_and_parse_data(data, schema), params)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        # Not orjson: it makes floats of integers that have more than 64 bits.
        given = json.loads(body)
    except ValueError as fault:
        raise Refusal(
            400,
            "BAD_REQUEST",
            f"Invalid input. Ensure that input is a valid JSON formatted string. Error: {fault!r}",
        ) from fault
    if not isinstance(given, dict):
        raise Refusal(
            400,
            "BAD_REQUEST",
            "Invalid input. The input must be a JSON dictionary with exactly one of the input"
            f" fields {set(_FORMATS)}. Received a {type(given).__name__}.",
        )
    return given


def _from_csv(body: bytes, schema: Any) -> Question:
    from io import StringIO

    from mlflow.pyfunc.scoring_server import parse_csv_input

    return Question(parse_csv_input(csv_input=StringIO(body.decode("utf-8")), schema=schema))


def _pair(parameter: str) -> tuple[str, str]:
    key, _, value = parameter.partition("=")
    return key.lower(), value


def _unsupported(message: str) -> Refusal:
    return Refusal(415, "INVALID_PARAMETER_VALUE", message)
