"""Great Expectations itself: imported here, at its first use, which takes seconds.

One at a time in a process, each in a context of its own: contexts that threads
shared have passed tables that were bad.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from threading import Lock
from typing import TYPE_CHECKING, Any

from ebbtide.core.errors import BadConfiguration
from ebbtide.core.gates import Finding, Verdict, failed, inconclusive, passed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ebbtide.adapters.expectations.suites import Expectation

_ONE_AT_A_TIME = Lock()
_SHOWN = 3
"""Unexpected values that are told. Only numbers: a text may be somebody's name."""
_NO_RESULT = ("expect_column_to_exist",)
"""Expectations that tell nothing beside whether they hold."""


def validated(expectations: "Sequence[Expectation]", table: "pa.Table") -> list[Finding]:
    """One finding for each expectation, in their order.

    Raises `BadConfiguration` for one that does not exist or has wrong arguments.
    """
    frame = table.to_pandas()
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        # While it loads, and of row conditions, which it has in version 1 for good.
        warnings.simplefilter("ignore", DeprecationWarning)
        gx = _library()
        _refuse_unknown(gx, expectations)
        results = _results(gx, _batch(gx, frame), expectations)
        return [_judged(each, results[n]) for n, each in enumerate(expectations)]


def _library() -> Any:
    """Great Expectations, which is never asked to tell anybody of its use."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    return great_expectations


def _batch(gx: Any, frame: "pd.DataFrame") -> Any:
    """The table, in a context that nothing else has ever used."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("data").add_dataframe_asset("table")
    return asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})


def _results(gx: Any, batch: Any, expectations: "Sequence[Expectation]") -> dict[int, Any]:
    """What it found of each, by place. All at once: each time it hashes the whole table anew."""
    asked = [{**each.model_dump(), "meta": {"n": n}} for n, each in enumerate(expectations)]
    for each, one in zip(expectations, asked, strict=True):
        try:
            gx.ExpectationSuite(name="one", expectations=[one])
        except Exception as fault:
            raise BadConfiguration(f"{each} has wrong arguments: {fault}") from fault
    suite = gx.ExpectationSuite(name="suite", expectations=asked)
    found = batch.validate(suite, result_format="SUMMARY").results
    results = {result.expectation_config.meta["n"]: result for result in found}
    strange = [
        each
        for n, each in enumerate(expectations)
        if n not in results or results[n].expectation_config.type != each.type
    ]
    if strange or len(found) != len(expectations):
        raise BadConfiguration(f"Great Expectations left out {', '.join(map(str, strange))}.")
    return results


def _refuse_unknown(gx: Any, expectations: "Sequence[Expectation]") -> None:
    known = set(gx.expectations.registry.list_registered_expectation_implementations())
    unknown = sorted({each.type for each in expectations} - known)
    if unknown:
        raise BadConfiguration(
            f"Great Expectations has no {', '.join(unknown)}.",
            remedy="Correct the name: it would be dropped, and nothing be checked.",
        )


def _judged(expectation: "Expectation", result: Any) -> Finding:
    """The finding of one result. Only a plain yes, with something looked at, passes."""
    import numpy as np

    raised = list(_raised(result.exception_info))
    told: Mapping[str, Any] = result.result or {}
    if raised:
        return Finding(Verdict.ERRORED, f"{expectation} could not be checked: {raised[0]}")
    if not isinstance(result.success, bool | np.bool_):
        return Finding(Verdict.ERRORED, f"{expectation} gave {result.success!r}: neither yes or no")
    nothing = _nothing_looked_at(expectation, told)
    if nothing:
        return inconclusive(f"{expectation}: {nothing}")
    if result.success:
        return passed(f"{expectation} holds")
    return failed(
        f"{expectation} does not hold: {_why(told)}", failing=[_failing(expectation, told)]
    )


def _raised(info: Any) -> Iterator[str]:
    """Messages of what was raised, alone or by metric."""
    if not isinstance(info, Mapping):
        return
    if info.get("raised_exception"):
        yield str(info.get("exception_message") or "it raised").strip().splitlines()[-1]
    for value in info.values():
        yield from _raised(value)


def _nothing_looked_at(expectation: "Expectation", told: Mapping[str, Any]) -> str:
    """Why the result says nothing, whatever it says; empty: it does."""
    if "element_count" in told:
        left = told["element_count"] - (told.get("missing_count") or 0)
        return "" if left > 0 else "no value was looked at"
    if "row_condition" in expectation.kwargs:
        return "nothing tells how many rows its condition has left"
    if "unexpected_count" in told:
        return ""
    if "observed_value" in told:
        return "nothing was observed" if _is_nothing(told["observed_value"]) else ""
    return "" if expectation.type in _NO_RESULT else "it tells nothing of what it looked at"


def _is_nothing(value: Any) -> bool:
    if isinstance(value, Mapping):
        return not value or any(_is_nothing(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(_is_nothing(each) for each in value)
    return value is None or (isinstance(value, float) and isnan(value))


def _why(told: Mapping[str, Any]) -> str:
    if "unexpected_count" in told and "element_count" in told:
        samples = _numbers(told.get("partial_unexpected_list", ()))
        such = f", such as {', '.join(samples)}" if samples else ""
        return f"{told['unexpected_count']} of {told['element_count']} values{such}"
    return f"observed {_plain(told.get('observed_value'))}"


def _failing(expectation: "Expectation", told: Mapping[str, Any]) -> dict[str, Any]:
    """The figures, as the journal keeps them."""
    kept = ("observed_value", "element_count", "unexpected_count", "unexpected_percent")
    figures = {key: _plain(told[key]) for key in kept if key in told}
    return {"expectation": str(expectation), **figures}


def _numbers(values: Sequence[Any]) -> list[str]:
    plain = [_plain(value) for value in values]
    return list(dict.fromkeys(str(value) for value in plain if isinstance(value, int | float)))[
        :_SHOWN
    ]


def _plain(value: Any) -> Any:
    """JSON: numpy's own types are made Python's; what has no form there becomes text."""
    import numpy as np

    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value if isinstance(value, str | bool | int | float | None) else str(value)
