"""The golden set: are two series of answers the same?"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ebbtide.core.gates import Finding, failed, inconclusive, passed

_SHOWN = 3


def same_answers(expected: Sequence[Any], got: Sequence[Any], tolerance: float) -> Finding:
    """Compare answers one by one; figures may differ by `tolerance`, relatively.

    Fails closed: no answers, a missing one or a NaN is not the same.
    """
    if not expected:
        return inconclusive("There are no recorded answers to compare with.")
    if len(expected) != len(got):
        return failed(f"{len(got)} answers to {len(expected)} questions.")
    pairs = enumerate(zip(expected, got, strict=True))
    firsts = {n: next(_differences(old, new, tolerance, "answer"), "") for n, (old, new) in pairs}
    differing = {n: why for n, why in firsts.items() if why}
    measured: dict[str, Any] = {"questions": len(expected), "different": len(differing)}
    if not differing:
        return passed(f"{len(expected)} answers as recorded.", **measured)
    shown = "; ".join(f"question {n}: {why}" for n, why in list(differing.items())[:_SHOWN])
    return failed(f"{len(differing)} of {len(expected)} answers differ: {shown}.", **measured)


def _differences(old: Any, new: Any, tolerance: float, place: str) -> Iterator[str]:
    if type(old) is float and type(new) is float and old == new:
        return  # nearly all of them: a golden set is thousands of figures
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if old.keys() != new.keys():
            yield f"{place} has other keys: {sorted(old)} and {sorted(new)}"
        for key in sorted(old.keys() & new.keys()):
            yield from _differences(old[key], new[key], tolerance, f"{place}.{key}")
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        yield from _of_lists(old, new, tolerance, place)
    elif _figure(old) and _figure(new):
        if not math.isclose(old, new, rel_tol=tolerance, abs_tol=1e-12):
            yield f"{place} is {new}, not {old}"
    elif old != new or type(old) is not type(new):
        yield f"{place} is {new!r}, not {old!r}"


def _of_lists(
    old: Sequence[Any], new: Sequence[Any], tolerance: float, place: str
) -> Iterator[str]:
    if len(old) != len(new):
        yield f"{place} has {len(new)} parts, not {len(old)}"
    for n, (one, other) in enumerate(zip(old, new, strict=False)):
        yield from _differences(one, other, tolerance, f"{place}[{n}]")


def _figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
