"""Verdicts: what a check between steps may say, and how several become one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """From best to worst. Only `PASSED` goes on."""

    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    ERRORED = "errored"

    @property
    def badness(self) -> int:
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate found: its verdict, why in one sentence, and the figures."""

    verdict: Verdict
    why: str
    measured: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASSED


def passed(why: str, **measured: Any) -> Finding:
    return Finding(Verdict.PASSED, why, measured)


def inconclusive(why: str, *, remedy: str = "", **measured: Any) -> Finding:
    return Finding(Verdict.INCONCLUSIVE, why, measured, remedy)


def failed(why: str, *, remedy: str = "", **measured: Any) -> Finding:
    return Finding(Verdict.FAILED, why, measured, remedy)


def worst(findings: Iterable[Finding]) -> Finding:
    """Several findings as one. None at all is not passed: a gate fails closed."""
    found = sorted(findings, key=lambda finding: finding.verdict.badness)
    if not found:
        return inconclusive("Nothing was checked.")
    bad = [finding for finding in found if not finding.passed]
    if not bad:
        return Finding(Verdict.PASSED, "; ".join(finding.why for finding in found))
    why = "; ".join(finding.why for finding in reversed(bad))
    return Finding(bad[-1].verdict, why, bad[-1].measured, bad[-1].remedy)
