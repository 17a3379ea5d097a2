"""How far two samples of one column are apart, and whether chance explains it.

Effect sizes decide, between 0 (alike) and 1: with a million rows a difference of
no consequence is significant, with twenty a great one is not. So a p-value only
says whether a distance that is over its limit can be believed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SAMPLED = 10_000
"""Rows of each side that Kolmogorov and Smirnov's statistic is worked out from."""
_BINS = 50
_ROWS_IN_A_BIN = 40
"""At least, on average: with fewer the distance between bins is mostly noise."""
_VALUES = 200
"""Values of a text column that are counted one by one, the commonest; the others as one."""
_SEED = 20_260_105


@dataclass(frozen=True, slots=True)
class Distance:
    """Two samples of a column."""

    numbers: float | None
    """Kolmogorov and Smirnov's D; None for what is no number."""
    shares: float
    """Jensen-Shannon distance of the shares of bins, or of values. Base 2: 0 to 1."""
    missing: float
    """Difference in the share of values that are missing."""
    p: float
    """How likely chance alone makes them so different, before correction for many columns."""


class Incomparable(ValueError):
    """Nothing can be said of these samples."""


class OtherKind(Incomparable):
    """The column is of another kind than before."""


def distance(before: "pa.ChunkedArray", after: "pa.ChunkedArray") -> Distance | None:
    """How far a column is from before; None for kinds that are not compared: times, lists.

    Raises `OtherKind`, and `Incomparable` where there is nothing to compare.
    """
    before, after = _plain(before), _plain(after)
    kinds = _kind(before.type), _kind(after.type)
    if kinds[0] != kinds[1]:
        raise OtherKind(f"it is {after.type}, and was {before.type}")
    if kinds[0] == "other":
        return None
    if not len(before) or not len(after):
        raise Incomparable("there are no rows")
    found = _of_numbers(before, after) if kinds[0] == "number" else _of_values(before, after)
    figures = [found.shares, found.missing, found.p, found.numbers or 0.0]
    if not all(0 <= figure <= 1 + 1e-9 for figure in figures):  # false for NaN too
        raise Incomparable(f"its distance came out as {found}")
    return found


def corrected(ps: list[float]) -> list[float]:
    """p-values of several columns together (Benjamini and Hochberg's false discovery rate)."""
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(ps)] if ps else []


def _of_numbers(before: "pa.ChunkedArray", after: "pa.ChunkedArray") -> Distance:
    from scipy.stats import ks_2samp

    one, other = _finite(before), _finite(after)
    if not len(one) or not len(other):
        raise Incomparable("every value is missing, now or before")
    sampled = _sample(one), _sample(other)
    tested = ks_2samp(*sampled, method="asymp")
    return Distance(
        numbers=float(tested.statistic),
        shares=_jensen_shannon(*_binned(one, other, *sampled)),
        missing=abs(len(one) / len(before) - len(other) / len(after)),
        p=float(tested.pvalue),
    )


def _of_values(before: "pa.ChunkedArray", after: "pa.ChunkedArray") -> Distance:
    from scipy.stats import chi2_contingency

    one, other = _counts(before), _counts(after)
    totals = sum(one.values()), sum(other.values())
    if not all(totals):
        raise Incomparable("every value is missing, now or before")
    counts = _commonest(one, other)
    p = float(chi2_contingency(counts).pvalue) if len(counts[0]) > 1 else 1.0
    missing = abs(totals[0] / len(before) - totals[1] / len(after))
    return Distance(None, _jensen_shannon(*counts), missing, p)


def _binned(one: "Floats", other: "Floats", *sampled: "Floats") -> "tuple[Floats, Floats]":
    """Counts in shared bins, which hold equal shares of both samples together."""
    import numpy as np

    bins = min(_BINS, max(2, min(len(one), len(other)) // _ROWS_IN_A_BIN))
    pooled = np.concatenate([np.resize(each, SAMPLED) for each in sampled])
    edges = np.unique(np.quantile(pooled, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))

    def count(values: "Floats") -> "Floats":
        found = np.searchsorted(edges, values, side="left")
        return np.bincount(found, minlength=len(edges) + 1).astype(np.float64)

    return count(one), count(other)


def _commonest(one: dict[Any, int], other: dict[Any, int]) -> "tuple[Floats, Floats]":
    """Counts by value, in a fixed order; the rare values as one. No column is empty."""
    import numpy as np

    both = {value: one.get(value, 0) + other.get(value, 0) for value in {*one, *other}}
    order = sorted(both, key=lambda value: (-both[value], str(value)))

    def count(found: dict[Any, int]) -> list[int]:
        kept = [found.get(value, 0) for value in order[:_VALUES]]
        rest = sum(found.get(value, 0) for value in order[_VALUES:])
        return [*kept, rest] if len(order) > _VALUES else kept

    return np.array(count(one), np.float64), np.array(count(other), np.float64)


def _jensen_shannon(one: "Floats", other: "Floats") -> float:
    """The distance of two counts as shares: the root of the divergence, in bits."""
    import numpy as np

    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2

    def relative(share: "Floats") -> float:
        there = share > 0
        return float(np.sum(share[there] * np.log2(share[there] / middle[there])))

    return float(np.sqrt(max(0.0, (relative(p) + relative(q)) / 2)))


def _sample(values: "Floats") -> "Floats":
    """At most `SAMPLED` values; the same of the same, whenever it is asked."""
    import numpy as np

    if len(values) <= SAMPLED:
        return values
    return np.random.default_rng(_SEED).choice(values, SAMPLED, replace=False, shuffle=False)


def _finite(column: "pa.ChunkedArray") -> "Floats":
    import numpy as np
    import pyarrow as pa

    values: Floats = column.cast(pa.float64(), safe=False).drop_null().to_numpy()
    return values[np.isfinite(values)]


def _counts(column: "pa.ChunkedArray") -> dict[Any, int]:
    found = column.drop_null().value_counts()
    return dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))


def _plain(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Without the encodings that files of the same values may differ in."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    return column


def _kind(type_: "pa.DataType") -> str:
    """`number`, `value` (text, yes or no) or `other`."""
    import pyarrow as pa

    kinds = pa.types
    if kinds.is_integer(type_) or kinds.is_floating(type_) or kinds.is_decimal(type_):
        return "number"
    return "value" if kinds.is_string(type_) or kinds.is_boolean(type_) else "other"
