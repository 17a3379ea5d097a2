"""A release and its refreshes: the same pipelines and models, their features made anew.

A refresh stands for the release that it refreshes once it was proved: it has
served, proved, or its gates were passed aside and are in its evidence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ebbtide.core.gates import Verdict
from ebbtide.core.journal import Journal
from ebbtide.core.release import Evidence

PASSED_ASIDE = "contents.features_meet_expectations"
"""The finding by which one shows that it was made, and its gates were passed, aside."""


@dataclass(frozen=True, slots=True)
class Families:
    """Which releases are refreshes of which. By ids; what has none is a family of its own."""

    of: Mapping[str, str]
    """What each refreshes, directly."""
    standing: tuple[str, ...] = ()
    """Those that stand for what they refresh, newest first."""

    def root(self, release: str) -> str:
        """The release that was refreshed first."""
        seen = {release}
        while (before := self.of.get(release, "")) and before not in seen:
            seen.add(before)
            release = before
        return release

    def widened(self, good: Iterable[str]) -> list[str]:
        """Good releases with all that stands for them, the newest materialisation first."""
        good = list(good)
        found: dict[str, None] = {}
        for root in dict.fromkeys(self.root(release) for release in good):
            family = (*self.standing, *good)
            found |= dict.fromkeys(each for each in family if self.root(each) == root)
        return list(found)


def families(journal: Journal, system: str) -> Families:
    """As the journal has them now."""
    known = journal.refreshed(system)
    if not known:
        return Families({})
    proved = set(journal.proved(system))
    return Families(
        {release: evidence.refreshes for release, evidence in known},
        tuple(release for release, evidence in known if release in proved or _aside(evidence)),
    )


def _aside(evidence: Evidence) -> bool:
    finding = evidence.findings.get(PASSED_ASIDE)
    return isinstance(finding, Mapping) and finding.get("verdict") == Verdict.PASSED
