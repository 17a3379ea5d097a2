"""Which releases are kept so that one can always go back to them, and what keeps them.

A retained release is a promise: what it pins is *leased*, which means that
ebbtide keeps a copy of its own (or a second name for the same bytes) that a
clean-up outside ebbtide does not reach. Only `ebbtide gc` gives a release up,
and never one that is retained.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from ebbtide.core.errors import Refused
from ebbtide.core.release import Evidence, Pin
from ebbtide.core.saga import Saga
from ebbtide.core.tenure import Tenure

LAST_PROVED = 5
"""So many of the last proved releases are kept, whatever a system file says."""
_HOUR, _DAY = 3600.0, 86400.0


class GivenUp(Refused):
    """The release was given up."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How long a system keeps its releases. Seconds."""

    proved: int = LAST_PROVED
    """The last so many proved releases; fewer than `LAST_PROVED` count as that many."""
    within: float = 90 * _DAY
    """Those recorded in this time."""
    cool_down: float = 72 * _HOUR
    """Those that served in this time."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the journal and the replicas say. Releases by their ids, moments in seconds."""

    now: float
    recorded: Mapping[str, float]
    """When each release was recorded."""
    pins: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The digests that each release pins."""
    tenures: Sequence[Tenure] = ()
    proved: Sequence[str] = ()
    """Those that a saga proved, newest first."""
    good: Sequence[str] = ()
    """Those that were proved good in production, newest first."""
    refreshes: Mapping[str, str] = field(default_factory=dict)
    """Which release each refresh is the newer materialisation of."""
    route: Mapping[str, str] = field(default_factory=dict)
    """What the route names: `live` or `candidate`, by release."""
    warm: Mapping[str, str] = field(default_factory=dict)
    """A replica that holds it, by release."""
    newest: Saga | None = None
    """The saga that can still be recovered, where it is open or needs a person."""
    denied: Mapping[str, float] = field(default_factory=dict)
    """Since when each content is quarantined, by digest."""


class GivingUp(Protocol):
    """The part of the journal that knows what was given up."""

    def give_up(
        self, system: str, releases: Collection[str], *, epoch: int, by: str, reason: str
    ) -> None:
        """Mark releases as given up. Idempotent; recording one again takes the mark away.

        Raises `Conflict` where the route is not at `epoch` any more or names one
        of them, `SagaOpen` where a saga is open, `Unknown`: then none is marked.
        """

    def given_up(self, system: str) -> Mapping[str, float]:
        """When each release was given up, in seconds since the epoch, by id."""

    def pinned_by(self, digest: str) -> frozenset[str]:
        """The releases of any system that pin that content and are not given up."""

    def denied_since(self, system: str) -> Mapping[str, float]:
        """Since when each content is denied, in seconds since the epoch, by digest."""

    def refreshed(self, system: str) -> list[tuple[str, Evidence]]:
        """The releases whose evidence says that they refresh another, newest first."""


@runtime_checkable
class Keeping(Protocol):
    """A layer that keeps contents itself, each below its digest."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def live(self, name: str) -> Pin | None: ...

    def prepare(self, pin: Pin) -> None: ...

    def kept_at(self, pin: Pin) -> Path | None:
        """Where the content is kept, or would be; None: ebbtide keeps none of it."""

    def kept_faults(self, pin: Pin) -> list[str]:
        """What is gone of what is kept. Fast: bytes are hashed by `Layer.problems`."""

    def lost_outside(self, pin: Pin) -> list[str]:
        """What is gone or changed where the content came from. Reads only.

        Where that says something, what is kept is the last copy.
        """

    def drop(self, pin: Pin, needed: Callable[[], bool]) -> bool:
        """Delete what is kept of the content; whether it did. Idempotent, safe to kill.

        `needed` is asked again once the content has lost its name: where
        somebody has begun to need it meanwhile, it gets its name back.
        """


def retained(rule: Rule, facts: Facts) -> Mapping[str, tuple[str, ...]]:
    """Why each release that is kept is kept. What has no reason here can be given up."""
    why: dict[str, list[str]] = {release: [] for release in facts.recorded}
    for release, reason in (
        *facts.route.items(),
        *((release, f"replica {name} holds it") for release, name in facts.warm.items()),
        *_last_proved(rule, facts),
        *_of_the_saga(facts.newest),
        *_young(rule, facts),
        *_cooling(rule, facts),
        *_under_review(rule, facts),
    ):
        if release in why and reason not in why[release]:
            why[release].append(reason)
    return {release: tuple(reasons) for release, reasons in why.items() if reasons}


def _last_proved(rule: Rule, facts: Facts) -> list[tuple[str, str]]:
    """The last ones by each count, and the newest of each of the last ones that were refreshed."""
    last = max(rule.proved, LAST_PROVED)
    firsts: dict[str, str] = {}
    for release in facts.good:
        firsts.setdefault(_root(facts.refreshes, release), release)
    kept = {*facts.proved[:last], *facts.good[:last], *list(firsts.values())[:last]}
    return [(release, f"one of the last {last} proved") for release in sorted(kept)]


def _root(refreshes: Mapping[str, str], release: str) -> str:
    seen = {release}
    while (before := refreshes.get(release, "")) and before not in seen:
        seen.add(before)
        release = before
    return release


def _of_the_saga(saga: Saga | None) -> list[tuple[str, str]]:
    if saga is None:
        return []
    ids = {saga.source, saga.target, saga.plan.get("base", ""), saga.plan.get("safe", "")}
    return [(release, f"saga {saga.id} is not finished") for release in sorted(ids - {""})]


def _young(rule: Rule, facts: Facts) -> list[tuple[str, str]]:
    days = f"recorded in the last {rule.within / _DAY:g} days"
    return [
        (release, days)
        for release, at in facts.recorded.items()
        if not facts.now - at >= rule.within  # an unknown moment is no old one
    ]


def _cooling(rule: Rule, facts: Facts) -> list[tuple[str, str]]:
    hours = f"served in the last {rule.cool_down / _HOUR:g} hours"
    return [
        (tenure.release, hours)
        for tenure in facts.tenures
        if tenure.until is None or not facts.now - tenure.until >= rule.cool_down
    ]


def _under_review(rule: Rule, facts: Facts) -> list[tuple[str, str]]:
    """What was quarantined is looked into, which takes as long as anything is kept."""
    fresh = {
        content for content, since in facts.denied.items() if not facts.now - since >= rule.within
    }
    return [
        (release, "quarantined lately: kept for the review")
        for release in facts.recorded
        if release in fresh or not fresh.isdisjoint(facts.pins.get(release, ()))
    ]
