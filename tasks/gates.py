"""Preflight: may the target be taken, is it all still there, does it fit together?"""

from ebbtide.core import quarantine, restorable
from ebbtide.core.compatibility import layers_fit
from ebbtide.core.default_target import proved_good
from ebbtide.core.errors import EbbtideError
from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.planner import denials
from ebbtide.core.ports import World
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Move


def target_is_allowed(world: World, move: Move) -> Finding:
    """The target is not quarantined and, at level `system`, was proved good."""
    denied = denials(world, move.target)
    if denied:
        return failed(
            f"{move.target.short} is quarantined: {'; '.join(denied)}.",
            remedy=quarantine.remedy(world, move.target),
        )
    asked = move.level is Level.SYSTEM and not move.accept_unproved
    if asked and move.target.id not in proved_good(world):
        return failed(
            f"{move.target.short} was never proved good in production.",
            remedy="Choose another, or say --accept-unproved.",
        )
    return passed("known and not quarantined")


def target_is_restorable(world: World, move: Move) -> Finding:
    """Every pin of the target is there, with the bytes that were recorded.

    Where this process would have to load a store's client first, which takes
    seconds, a live replica looks: it has them all. Where none can say, or this
    process has them too, it looks itself.
    """
    problems, who = _restorable(world, move.target)
    if problems:
        return failed(
            f"{' '.join(problems)} (found by {who})",
            remedy="Choose another target, or put back what is missing.",
        )
    pins = sum(len(pins) for pins in move.target.layers.values())
    return passed(
        f"{pins} pins in {len(move.target.layers)} layers are whole, says {who}", looked=who
    )


def _restorable(world: World, target: Release) -> tuple[list[str], str]:
    """What is wrong with the target's pins, and who has looked at them."""
    who = "this process"
    cold = restorable.is_cold(world.layers, target)
    replicas = sorted(world.serving.replicas(), key=lambda replica: replica.age) if cold else []
    for replica in replicas[:1]:
        try:
            return world.serving.problems(replica, target), replica.name
        except EbbtideError as fault:
            who = f"this process, for {fault.message}"
    return restorable.problems(world.layers, target), who


def layers_are_compatible(world: World, move: Move) -> Finding:
    """Each model was trained on the features that it will read, or proved with them."""
    served = _proved(world, move.target)
    if move.target.unmade:
        return passed("what is not made yet is looked at once it is")
    finding = layers_fit(move.target, served)
    if finding.passed or move.level is not Level.MODEL:
        return finding
    whole = _whole_release(move.target, served)
    remedy = (
        f"Level `system` works: release {whole.short} has this model with its own features."
        if whole
        else "Level `system` goes back to a release whose layers belong together."
    )
    return Finding(finding.verdict, finding.why, finding.measured, remedy)


def made_layers_fit(world: World, move: Move) -> Finding:
    """What was made for the target fits the rest of it."""
    return layers_fit(move.target, _proved(world, move.target))


def _proved(world: World, target: Release) -> list[Release]:
    """What was proved together: by tenure, also where it was quarantined since."""
    proved = set(world.journal.proved(world.system))
    if target.id in proved:
        return [target]
    return [release for release, _ in world.journal.releases(world.system) if release.id in proved]


def _whole_release(target: Release, served: list[Release]) -> Release | None:
    return next(
        (release for release in served if release.pins("model") == target.pins("model")),
        None,
    )
