"""Decides whether a response is whole, from the response alone.

It knows what each release answers, worked out aside beforehand, and believes
nothing that a gateway says of itself: a response is served only where every
figure and every word of it is what the release that it names answers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isclose, isfinite
from pathlib import Path
from statistics import median
from typing import Any

RELEASE = "x-ebbtide-release"
_NOT_LAYERS = frozenset(
    {
        RELEASE,
        "x-ebbtide-epoch",
        "x-ebbtide-replica",
        "x-ebbtide-cache",
        "x-ebbtide-request",
    }
)
_SHOWS = {
    "demand": "model and features",
    "surge": "configuration",
    "price": "configuration",
    "message": "prompt",
}
"""Which layers a part of an answer shows, in the order in which they follow from each other."""
_TOLERANCE = 1e-6
_OK = 200


class Verdict(StrEnum):
    SERVED = "served"
    FAILED = "failed"
    """No answer, or none for each row."""
    MIXED = "mixed"
    """An answer that is not, in every layer, the answer of the release that it names."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one request."""

    verdict: Verdict
    why: str = ""
    release: str = ""
    price_error: float | None = None
    """Median over the rows of |price / fair price - 1|; None where nothing was served."""


@dataclass
class Oracle:
    """Holds the expected answers, read from `<folder>/<release id>.json` when first needed.

    Not for several threads.
    """

    folder: Path
    _expected: dict[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    _layers: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def knows(self, release: str) -> bool:
        """Whether its answers are worked out; of no release at all there is nothing to wait for."""
        return not release or self._answers(release) is not None

    def judge(
        self,
        rows: Sequence[Mapping[str, str]],
        status: int,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Judged:
        """Judge one response. `headers` by lower-case names."""
        release = headers.get(RELEASE, "")
        given = _predictions(body) if status == _OK else None
        if given is None or len(given) != len(rows):
            return Judged(Verdict.FAILED, f"status {status}", release)
        expected = self._answers(release)
        if expected is None:
            return Judged(Verdict.MIXED, f"no such release was shipped: {release or 'none'}")
        keys = [key(row) for row in rows]
        why = self._layers_differ(release, headers) or self._answers_differ(release, keys, given)
        error = median(
            abs(answer["price"] / expected[row]["fair"] - 1)
            for row, answer in zip(keys, given, strict=True)
        )
        verdict = Verdict.MIXED if why else Verdict.SERVED
        return Judged(verdict, why, release, error if isfinite(error) else None)

    def _answers(self, release: str) -> Mapping[str, Mapping[str, Any]] | None:
        """By row; None for a release that nobody has worked out."""
        if release and release not in self._expected:
            path = self.folder / f"{Path(release).name}.json"
            if path.exists():
                self._expected[release] = json.loads(path.read_text())
        return self._expected.get(release)

    def _layers_differ(self, release: str, headers: Mapping[str, str]) -> str:
        """A release's layers are the same in every response that names it."""
        layers = {
            name: value
            for name, value in headers.items()
            if name.startswith("x-ebbtide-") and name not in _NOT_LAYERS
        }
        first = self._layers.setdefault(release, layers)
        if layers == first:
            return ""
        odd = {name for name in {*layers, *first} if layers.get(name) != first.get(name)}
        return f"{', '.join(sorted(odd))} changed within release {release[:12]}"

    def _answers_differ(
        self, release: str, keys: Sequence[str], given: Sequence[Mapping[str, Any]]
    ) -> str:
        for row, answer in zip(keys, given, strict=True):
            for part, layers in _SHOWS.items():
                if not _same(answer.get(part), self._expected[release][row][part]):
                    others = self._who_says(row, part, answer.get(part))
                    return f"{layers} of {others} in an answer of {release[:12]} ({row})"
        return ""

    def _who_says(self, row: str, part: str, value: Any) -> str:
        """The releases that would have answered so."""
        found = [
            release[:12]
            for release, rows in self._expected.items()
            if _same(value, rows[row][part])
        ]
        return " or ".join(found) or "no release"


def key(row: Mapping[str, str]) -> str:
    """Under what a row's expected answer is found."""
    return f"{row['zone']}|{row['hour']}"


def _predictions(body: bytes) -> list[Mapping[str, Any]] | None:
    """None where the body is no list of answers with a price each."""
    try:
        found = json.loads(body)["predictions"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(found, list):
        return None
    whole = all(isinstance(each, dict) and isinstance(each.get("price"), float) for each in found)
    return found if whole else None


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return bool(given == wanted)
    return isinstance(given, int | float) and isclose(given, wanted, rel_tol=_TOLERANCE)
