"""The picture: price error over time, with deployment, detection and the way back."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reference.ride_pricing.oracle import Verdict
from reference.ride_pricing.story import Shipped, Story
from reference.ride_pricing.traffic import Served

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BAD, MAKING = "#c2302a", "#3a5fa8"
GOOD = ("#7b8fa6", "#1b7f79", "#3a5fa8", "#8a6d3b")
_VERDICTS = {Verdict.SERVED: "#a9c4c2", Verdict.FAILED: "#e0a030", Verdict.MIXED: BAD}
_BIN = 0.5
"""Seconds for one point of the line."""
_RIBBON = 0.08
"""The share of the upper panel that lies below zero."""
_APART = 3
"""Bins without an answer after which the line is broken."""


def draw(story: Story, to: Path) -> None:
    """Write the picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.2), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=(5, 1), hspace=0.06)
    errors = figure.add_subplot(grid[0])
    requests = figure.add_subplot(grid[1], sharex=errors)
    _errors(errors, story)
    _requests(requests, story)
    _title(figure, errors, story)
    _marks(errors, requests, story)
    figure.savefig(to)


def colours(shipped: Sequence[Shipped]) -> dict[str, str]:
    """One colour for each release; the bad one is red."""
    good = iter(GOOD * len(shipped))
    return {each.release: BAD if each.bad else next(good) for each in shipped}


def _errors(axes: "Axes", story: Story) -> None:
    for release, colour in colours(story.shipped).items():
        mine = [each for each in story.served if each.release == release]
        _line(axes, [each for each in mine if each.price_error is not None], story, colour)
    _ribbon(axes, story)
    axes.set_ylabel("price error, % of the fair price", color=INK)
    top = max(45.0, _highest(story) * 1.25)
    axes.set_ylim(-top * _RIBBON / (1 - _RIBBON), top)
    axes.set_yticks(range(0, int(top) + 1, 10))
    axes.tick_params(labelbottom=False)
    _plain(axes)


def _line(axes: "Axes", mine: Sequence[Served], story: Story, colour: str) -> None:
    """Each response as a faint point, the median of each half second as a line."""
    at = np.array([each.at - story.start for each in mine])
    error = np.array([100 * (each.price_error or 0.0) for each in mine])
    axes.scatter(at, error, s=5, color=colour, alpha=0.22, linewidths=0, rasterized=True)
    bins: dict[int, list[float]] = defaultdict(list)
    for moment, value in zip(at, error, strict=True):
        bins[int(moment // _BIN)].append(value)
    for run in _runs(sorted(bins)):
        middle = [(each + 0.5) * _BIN for each in run]
        axes.plot(
            middle,
            [float(np.median(bins[each])) for each in run],
            color=colour,
            linewidth=2.6,
            solid_capstyle="round",
        )


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers that follow each other closely, together: a release may serve twice."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number - runs[-1][-1] <= _APART:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _ribbon(axes: "Axes", story: Story) -> None:
    """Who served when: a band below zero, with the releases' names."""
    names = {each.release: each.name for each in story.shipped}
    palette = colours(story.shipped)
    for release, first, last in _spans(story.served):
        if release in names:
            start, end = first - story.start, last - story.start
            axes.axvspan(start, end, 0.005, _RIBBON - 0.015, color=palette[release], linewidth=0)
            axes.text(
                (start + end) / 2,
                _RIBBON / 2 - 0.005,
                names[release],
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="center",
                color="white",
                fontweight="bold",
                clip_on=True,
            )


def _spans(served: Sequence[Served]) -> list[tuple[str, float, float]]:
    """Who served from when to when. At a switch answers of both come in for a moment."""
    runs = [(each, list(group)) for each, group in groupby(served, key=lambda one: one.release)]
    spans: list[tuple[str, float, float]] = []
    for release, group in runs:
        first, last = group[0].at, group[-1].at
        if spans and spans[-1][0] == release:
            spans[-1] = (release, spans[-1][1], last)
        elif last - first > _BIN:
            spans.append((release, first, last))
    return spans


def _requests(axes: "Axes", story: Story) -> None:
    """Requests in each second, by what became of them."""
    at = {
        verdict: [each.at - story.start for each in story.served if each.verdict is verdict]
        for verdict in Verdict
    }
    end = max((moment for each in at.values() for moment in each), default=1.0)
    edges = np.arange(0, np.ceil(end) + 1)
    axes.hist(
        [at[verdict] for verdict in Verdict],
        bins=list(edges),
        stacked=True,
        rwidth=0.86,
        color=[_VERDICTS[verdict] for verdict in Verdict],
    )
    counts = story.counts
    words = [f"{counts[verdict]:,} {verdict}" for verdict in Verdict]
    axes.set_ylabel("requests/s", color=INK)
    axes.set_xlabel(f"seconds    ·    requests: {', '.join(words)}", color=INK)
    axes.set_xlim(0, max(end, 1.0))
    _plain(axes)


def _marks(errors: "Axes", requests: "Axes", story: Story) -> None:
    """The moments as lines through both panels; the incident shaded, and the making after it."""
    first, last = (mark.at - story.start for mark in (story.deployed, story.rolled_back))
    there = story.arrived.at - story.start if story.arrived else last
    for axes in (errors, requests):
        axes.axvspan(first, last, color=BAD, alpha=0.06, linewidth=0, zorder=0)
        axes.axvspan(last, there, color=MAKING, alpha=0.06, linewidth=0, zorder=0)
        for mark in story.marks:
            axes.axvline(mark.at - story.start, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ends = errors.get_xlim()[1]
    for n, mark in enumerate(story.marks):
        height = 0.97 - 0.07 * n
        at = mark.at - story.start
        right = at > 0.8 * ends
        errors.annotate(
            f"{mark.label}  {at:.1f} s",
            (at, height),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if right else 6, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=10,
            color=INK,
            bbox={"boxstyle": "round,pad=0.25", "fc": "white", "ec": GRID},
        )


def _title(figure: "Figure", axes: "Axes", story: Story) -> None:
    figure.suptitle(
        story.headline,
        x=0.012,
        ha="left",
        fontsize=15,
        fontweight="bold",
        color=INK,
    )
    axes.set_title(
        "Each point is one response; the line is the median of half a second.",
        loc="left",
        fontsize=10,
        color=FAINT,
    )


def _highest(story: Story) -> float:
    """Nearly the highest of the points: a few rare ones may lie above the picture."""
    errors = [each.price_error for each in story.served if each.price_error is not None]
    return 100 * float(np.percentile(errors, 99.5)) if errors else 0.0


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
