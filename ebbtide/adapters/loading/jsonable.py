"""Predictions as JSON holds them, in the forms of MLflow's scoring protocol."""

import base64
import datetime
import math
from typing import Any


class Unsound(ValueError):
    """What no client should be given: NaN, an infinity, or what JSON cannot hold."""


def plain(value: Any) -> Any:
    """numpy and pandas made plain Python, down to the last element.

    A DataFrame becomes records, a named column too, as MLflow has it.
    Raises `Unsound` for NaN, infinities and what has no JSON form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value if type(value) in (str, bool, int, type(None)) else _base(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unsound(f"{value}")
        return float(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return base64.encodebytes(value).decode("ascii")
    return _foreign(value)


def _base(value: Any) -> Any:
    """A subclass (an enum's member, `numpy.str_`) as the built-in it derives from."""
    kind = next(base for base in (bool, int, str) if isinstance(value, base))
    return kind(value.value if hasattr(value, "value") else value)


def _foreign(value: Any) -> Any:
    if hasattr(value, "to_frame") and hasattr(value, "to_list"):
        return plain(value.to_frame().to_dict(orient="records"))
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return plain(value.to_dict(orient="records"))
    if hasattr(value, "tolist"):
        made = value.tolist()
        return plain(made) if type(made) is not type(value) else _refuse(value)
    if isinstance(value, datetime.date | datetime.time) and str(value) != "NaT":
        return value.isoformat()
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    return _refuse(value)


def _refuse(value: Any) -> Any:
    raise Unsound(f"a {type(value).__name__}, which JSON cannot hold")
