"""Giving releases up: what would go, the mark in the journal, and only then the deletion.

Nothing is deleted but what ebbtide keeps itself; registries, DVC's cache and
tables stay as they are, only that nothing protects what a given-up release
needs there any more. Who dies in between has marked and not deleted all: the
next run finishes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ebbtide.core.crashpoints import reach
from ebbtide.core.default_target import proved_good
from ebbtide.core.errors import EbbtideError, SagaOpen
from ebbtide.core.keeping import (
    keep,
)
from ebbtide.core.ports import World
from ebbtide.core.release import Pin, Release
from ebbtide.core.retention import (
    Facts,
    GivingUp,
    Keeping,
    retained,
)
from ebbtide.core.saga import SagaState


@dataclass(frozen=True, slots=True)
class Loss:
    """A release that can be given up, and what could not be had back after that."""

    release: str
    recorded: float
    """Seconds since the epoch."""
    places: Mapping[str, tuple[Path, ...]]
    """By layer, the kept contents that no other release needs."""
    last: tuple[str, ...] = ()
    """Of those, what is nowhere else any more; empty: all could be made or fetched again."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What can be given up now, and what is kept, with why."""

    system: str
    epoch: int
    losses: tuple[Loss, ...]
    kept: Mapping[str, tuple[str, ...]]
    unfinished: tuple[Path, ...] = ()
    """Kept contents of releases that were given up before: that run did not come to its end."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a run has done."""

    given_up: tuple[str, ...]
    deleted: tuple[Path, ...]
    leased: tuple[str, ...] = ()
    """Retained releases whose leases were taken again."""
    broken: tuple[str, ...] = ()
    """Leases of retained releases that could not be taken again, and why."""
    payloads: int = 0
    """Effects whose payloads were deleted."""


def propose(world: World, also: Sequence[GivingUp] = ()) -> Proposal:
    """What can be given up. Reads only. Raises `SagaOpen`, `Unreachable`.

    `also`: other journals whose systems keep contents in the same folders.
    """
    _refuse_open(world)
    route = world.journal.route(world.system)
    kept = retained(world.policy.retention, facts_of(world))
    gone = world.journal.given_up(world.system)
    going = {
        release.id: (release, evidence.at)
        for release, evidence in world.journal.releases(world.system)
        if release.id not in kept and release.id not in gone
    }
    needs = _Needs(world, also, frozenset(going))
    return Proposal(
        world.system,
        route.epoch if route else 0,
        tuple(_loss(world, release, at, needs) for release, at in going.values()),
        kept,
        tuple(dict.fromkeys(_unfinished(world, needs))),
    )


def give_up(
    world: World,
    proposal: Proposal,
    *,
    by: str,
    reason: str = "",
    also: Sequence[GivingUp] = (),
) -> Cleared:
    """Mark what was proposed, delete what only it needed, and take missing leases again.

    The payloads of its effects go as well: it is never rolled back any more.

    Idempotent. Raises `Conflict` where the route has moved on since, `SagaOpen`.
    """
    releases = [loss.release for loss in proposal.losses]
    world.journal.give_up(world.system, releases, epoch=proposal.epoch, by=by, reason=reason)
    reach("giving_up/marked")
    payloads = world.journal.forget_effects(world.system, by=by)
    deleted, needs = [], _Needs(world, also)
    for adapter, pin in _given_up(world):
        place = adapter.kept_at(pin)
        if adapter.drop(pin, partial(needs.has, pin.digest)) and place:
            deleted.append(place)
            reach("giving_up/one-deleted")
    leased, broken = _leased_again(world, proposal.kept)
    return Cleared(tuple(releases), tuple(deleted), leased, broken, payloads)


def _refuse_open(world: World) -> None:
    for saga in world.journal.sagas(world.system, limit=1):
        if saga.state is SagaState.OPEN:
            raise SagaOpen(
                f"Saga {saga.id} of {world.system} is open: nothing is given up meanwhile.",
                remedy=f"Wait for it, or finish it: ebbtide recover {world.system}.",
            )


class _Needs:
    """Which contents somebody needs: a release that stays, or what is shown somewhere."""

    def __init__(
        self, world: World, also: Sequence[GivingUp], going: frozenset[str] = frozenset()
    ) -> None:
        self._journals = (world.journal, *also)
        self._going = going
        self._shown = {
            pin.digest
            for adapter in world.layers.values()
            if isinstance(adapter, Keeping)
            for name in adapter.names
            if (pin := adapter.live(name)) is not None
        }

    def has(self, digest: str) -> bool:
        """Asked of the journals anew each time."""
        return digest in self._shown or any(
            journal.pinned_by(digest) - self._going for journal in self._journals
        )


def _loss(world: World, release: Release, at: float, needs: _Needs) -> Loss:
    places: dict[str, list[Path]] = {}
    last = []
    for layer, adapter, pin in _kept(world, release):
        place = adapter.kept_at(pin)
        if place is None or not place.is_dir() or needs.has(pin.digest):
            continue
        places.setdefault(layer, []).append(place)
        last += [f"{layer} {pin.name} {pin}: {line}" for line in _lost(adapter, pin)]
    found = {layer: tuple(each) for layer, each in places.items()}
    return Loss(release.id, at, found, tuple(last))


def _lost(adapter: Keeping, pin: Pin) -> list[str]:
    try:
        return adapter.lost_outside(pin)
    except EbbtideError as fault:
        return [f"whether it is anywhere else cannot be told: {fault.message}"]


def _kept(world: World, release: Release) -> Iterator[tuple[str, Keeping, Pin]]:
    for layer, pins in release.layers.items():
        adapter = world.layers.get(layer)
        if isinstance(adapter, Keeping):
            for pin in pins:
                yield layer, adapter, pin


def _given_up(world: World) -> Iterator[tuple[Keeping, Pin]]:
    gone = world.journal.given_up(world.system)
    for release, _ in world.journal.releases(world.system):
        if release.id in gone:
            for _layer, adapter, pin in _kept(world, release):
                yield adapter, pin


def _unfinished(world: World, needs: _Needs) -> Iterator[Path]:
    for adapter, pin in _given_up(world):
        place = adapter.kept_at(pin)
        if place is not None and place.is_dir() and not needs.has(pin.digest):
            yield place


def _leased_again(
    world: World, kept: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take leases that are missing; a release that was recorded before there were any has none."""
    leased, broken = [], []
    for release in (world.journal.release(each) for each in kept):
        if not any(adapter.kept_faults(pin) for _, adapter, pin in _kept(world, release)):
            continue
        try:
            keep(world, release)
            leased.append(release.id)
        except EbbtideError as fault:
            broken.append(f"{release.short}: {fault}")
    return tuple(leased), tuple(broken)


def facts_of(world: World) -> Facts:
    """Everything that the rule goes by. Raises `Unreachable`."""
    journal, system = world.journal, world.system
    releases = journal.releases(system)
    route = journal.route(system)
    named = {route.candidate: "candidate", route.release: "live"} if route else {}
    newest = journal.sagas(system, limit=1)
    return Facts(
        now=journal.now(),
        recorded={release.id: evidence.at for release, evidence in releases},
        pins={release.id: _digests(release) for release, _ in releases},
        tenures=journal.tenures(system),
        proved=journal.proved(system),
        good=proved_good(world),
        refreshes={each: evidence.refreshes for each, evidence in journal.refreshed(system)},
        route={release: what for release, what in named.items() if release},
        warm={held: each.name for each in world.serving.replicas() for held in each.loaded},
        newest=next((saga for saga in newest if saga.state in ("open", "needs human")), None),
        denied=journal.denied_since(system),
    )


def _digests(release: Release) -> frozenset[str]:
    return frozenset(pin.digest for pins in release.layers.values() for pin in pins)
