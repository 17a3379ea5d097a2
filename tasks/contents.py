"""What the target's tables and features hold: as expected, as before, and fresh enough?

Looked at before a model is trained on it for hours, and before anything live moves.
"""

from collections.abc import Iterator
from math import isfinite, nan

from ebbtide.core.compatibility import misfits
from ebbtide.core.gates import Finding, failed, inconclusive, passed, worst
from ebbtide.core.planner import denials
from ebbtide.core.ports import World
from ebbtide.core.release import Pin
from ebbtide.core.saga import Level, Move

_SKEW = 600.0
"""Seconds by which the clock of whoever made them may be ahead of the journal's."""


def data_meet_expectations(world: World, move: Move) -> Finding:
    """Each table meets its suite as it was at the target's version, before anything moves."""
    pins = _brought(move, "data")
    if not pins:
        return passed("no table changes")
    return worst(world.contents.examine_table(pin) for pin in pins)


def features_meet_expectations(world: World, move: Move) -> Finding:
    """The features that were made for the target meet their suite."""
    pins = _brought(move, "features")
    if not pins:
        return passed("no features change")
    return worst(
        failed(f"Not made: {pin.name} {pin}.")
        if pin.unmade
        else world.contents.examine_features(pin)
        for pin in pins
    )


def features_fit_signature(world: World, move: Move) -> Finding:
    """The features have what each model of the target reads, as the type that it reads."""
    before = move.base or move.source
    models = [pin for pin in move.target.pins("model") if not pin.unmade]
    faults = [
        f"model {model.name}: {fault}"
        for model in models
        for pin in move.target.pins("features")
        for fault in misfits(model, pin, before.pin("features", pin.name) if before else None)
    ]
    if faults:
        return failed(
            f"The features do not fit the signature: {'; '.join(faults)}.",
            remedy="Go back to a pipeline that makes what the model reads.",
        )
    return passed(
        f"they fit {', '.join(f'model {pin.name} {pin}' for pin in models)}"
        if models
        else "every model will be trained on these features"
    )


def features_are_like_before(world: World, move: Move) -> Finding:
    """The features are distributed as those that their pipeline was proved with."""
    pins = _brought(move, "features")
    if not pins:
        return passed("no features change")
    return worst(_like_before(world, move, pin) for pin in pins)


def features_are_fresh(world: World, move: Move) -> Finding:
    """The target's features are no older than the system file allows."""
    pins = move.target.pins("features")
    if not pins:
        return passed("the system has no features")
    return worst(_fresh(world, move, pin) for pin in pins)


def _brought(move: Move, layer: str) -> tuple[Pin, ...]:
    """What the target has otherwise than the base, or than what serves meanwhile.

    A safe release that serves by now may have it already; it is looked at all the same.
    """
    others = [release for release in (move.source, move.base) if release]
    return tuple(
        pin
        for pin in move.target.pins(layer)
        if not others or any(other.pin(layer, pin.name) != pin for other in others)
    )


def _like_before(world: World, move: Move, pin: Pin) -> Finding:
    if move.level is Level.REFRESH:
        live = move.source.pin("features", pin.name) if move.source else None
        return world.contents.compare_features(pin, live) if live else _nothing_to_compare(pin)
    trusted = list(_trusted(world, move, pin.name))
    same = [before for before in trusted if _same_pipeline(before, pin)]
    if same:
        return world.contents.compare_features(pin, same[0])
    finding = _nothing_to_compare(pin)
    if trusted and move.level is Level.DATA:
        finding = world.contents.compare_features(pin, trusted[0])
    if not finding.passed and move.accept_unproved:
        return passed(f"a person has accepted them, never proved: {finding.why}")
    return finding


def _nothing_to_compare(pin: Pin) -> Finding:
    return inconclusive(
        f"Features {pin.name} {pin}: no release with this pipeline was proved, so there is "
        "nothing to compare them with.",
        remedy="Choose a pipeline that was proved, or say --accept-unproved.",
    )


def _trusted(world: World, move: Move, name: str) -> Iterator[Pin]:
    """Features of releases that were proved, but for the one that is gone back from.

    First those over the very data of the target, then the newest: a release in
    between may have been made of what is bad in the base.
    """
    bad = {release.id for release in (move.base,) if release}
    proved = [
        world.journal.release(each, world.system)
        for each in world.journal.proved(world.system)
        if each not in bad
    ]
    proved.sort(key=lambda release: release.pins("data") != move.target.pins("data"))
    for release in proved:
        pin = release.pin("features", name)
        if pin and not denials(world, release):
            yield pin


def _same_pipeline(one: Pin, other: Pin) -> bool:
    """By its code and parameters, or by the commit that has them."""
    return any(
        one.at.get(key, "") == other.at.get(key, "") != ""
        for key in ("pipeline", "commit", "version")
    )


def _fresh(world: World, move: Move, pin: Pin) -> Finding:
    within = world.contents.fresh_within(pin.name)
    if within is None:
        return passed(f"the system file names no `fresh_within` for features {pin.name}")
    if pin.unmade:
        return passed(f"features {pin.name} are made now")
    if move.source and move.source.pin("features", pin.name) == pin:
        return passed(f"features {pin.name} are live already")
    made = _made_at(world, pin)
    age = nan if made is None else world.journal.now() - made
    if not isfinite(age) or age < -_SKEW:
        return inconclusive(f"Nothing says when features {pin.name} {pin} were made.")
    if age <= within:
        return passed(f"features {pin.name} are {_time(age)} old", age=age)
    if move.accept_unproved:
        return passed(f"features {pin.name} are {_time(age)} old: accepted", age=age)
    return failed(
        f"Features {pin.name} {pin} are {_time(age)} old; {_time(within)} is the oldest that "
        "may go live.",
        remedy=f"Make them anew with `ebbtide refresh {world.system}`, or say --accept-unproved.",
        age=age,
    )


def _made_at(world: World, pin: Pin) -> float | None:
    """When they were made, or the first release of them was recorded; None: nobody knows."""
    try:
        return float(pin.at["made_at"])
    except (KeyError, ValueError):
        pass
    recorded = [
        evidence.at
        for release, evidence in world.journal.releases(world.system)
        for other in release.pins("features")
        if (other.name, other.digest) == (pin.name, pin.digest)
    ]
    return min(recorded, default=None)


def _time(seconds: float) -> str:
    """`3 days`, `5 hours`, `40 s`."""
    seconds = max(0.0, seconds)
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
