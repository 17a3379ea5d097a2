"""Are features distributed as those before? Column by column, so memory holds one of both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebbtide.adapters.statistics.distribution import (
    Distance,
    Incomparable,
    OtherKind,
    corrected,
    distance,
)
from ebbtide.adapters.statistics.parquet import Shape, named, read_files, tables_in
from ebbtide.adapters.system.things import Like
from ebbtide.core.gates import Finding, failed, inconclusive, passed

_REMEDY = (
    "Look at what the pipeline read. Limits are in the system file, below `like` of the features."
)
_TOLD = 50
"""Columns whose figures are kept, the furthest: there may be thousands."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One column, and how far it is from before; why not where that cannot be said."""

    name: str
    label: str
    """With its table, where there are several."""
    distance: Distance | None
    why: Incomparable | None = None


def compare_folders(before: Path, after: Path, like: Like) -> Finding:
    """Compare the Parquet files of two folders, files with the same columns as one table.

    Raises `Refused` where a file cannot be read.
    """
    was, now = tables_in(before), tables_in(after)
    if not was or not now:
        return inconclusive("there are no Parquet files to compare", remedy=_REMEDY)
    if set(was) != set(now):
        return failed(
            f"its tables have other columns than before: now {named(now)}; then {named(was)}",
            remedy="Features of one pipeline have the same columns.",
        )
    columns = [
        column
        for shape in sorted(now)
        for column in _compared(shape, was[shape], now[shape], like, _table(shape, now))
    ]
    return _judged(columns, like)


def _compared(
    shape: Shape, was: Sequence[Path], now: Sequence[Path], like: Like, table: str
) -> Iterator[_Column]:
    for name in shape:
        if name in like.leave_out:
            continue
        before, after = (read_files(files, [name])[name] for files in (was, now))
        try:
            yield _Column(name, table + name, distance(before, after))
        except Incomparable as fault:
            yield _Column(name, table + name, None, fault)


def _table(shape: Shape, tables: Mapping[Shape, Sequence[Path]]) -> str:
    """What tells a column of one table from that of another: a file's name."""
    return "" if len(tables) == 1 else f"{tables[shape][0].stem}."


def _judged(columns: Sequence[_Column], like: Like) -> Finding:
    void = [each for each in columns if each.why]
    if void:
        what = "; ".join(f"{each.label}: {each.why}" for each in void)
        if any(isinstance(each.why, OtherKind) for each in void):
            return failed(f"not what was there before: {what}", remedy=_REMEDY)
        return inconclusive(f"nothing can be said of {what}", remedy=_REMEDY)
    told = {each: each.distance for each in columns if each.distance}
    if not told:
        return inconclusive("no column is of a kind that can be compared", remedy=_REMEDY)
    furthest = sorted(told.items(), key=lambda each: _largest(each[1]), reverse=True)
    figures = {column.label: _figures(found) for column, found in furthest[:_TOLD]}
    over = _over(told, like)
    if not over:
        return passed(
            f"{len(told)} columns are distributed as before, the furthest "
            f"{furthest[0][0].label} ({_largest(furthest[0][1]):.2f})",
            columns=figures,
        )
    what = "; ".join(f"{column} ({said})" for column, (said, _) in [*over.items()][:_TOLD])
    if any(certain for _, certain in over.values()):
        return failed(f"not distributed as before: {what}", remedy=_REMEDY, columns=figures)
    return inconclusive(
        f"too few rows to tell whether these are distributed as before: {what}",
        remedy=_REMEDY,
        columns=figures,
    )


def _over(told: Mapping[_Column, Distance], like: Like) -> dict[str, tuple[str, bool]]:
    """What is over its limits, by column, and whether chance does not explain it."""
    ps = corrected([found.p for found in told.values()])
    found = {}
    for (column, distance_), p in zip(told.items(), ps, strict=True):
        said = _excess(column.name, distance_, like)
        if said:
            certain = p <= like.significance or distance_.missing > like.missing
            found[column.label] = (said, certain)
    return found


def _excess(name: str, found: Distance, like: Like) -> str:
    """What is over its limit; empty: nothing."""
    numbers, shares = (like.columns.get(name, limit) for limit in (like.numbers, like.shares))
    said = []
    if found.numbers is not None and found.numbers > numbers:
        said.append(f"distance {found.numbers:.2f} of numbers, limit {numbers:g}")
    if found.shares > shares:
        said.append(f"distance {found.shares:.2f} of shares, limit {shares:g}")
    if found.missing > like.missing:
        said.append(f"share of missing values {found.missing:.2f} off, limit {like.missing:g}")
    return ", ".join(said)


def _largest(found: Distance) -> float:
    return max(found.shares, found.numbers or 0.0)


def _figures(found: Distance) -> dict[str, float | None]:
    return {
        "numbers": None if found.numbers is None else round(found.numbers, 4),
        "shares": round(found.shares, 4),
        "missing": round(found.missing, 4),
        "p": found.p,
    }
