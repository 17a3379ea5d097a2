"""What must not come back by itself: the release that was left, and the model within."""

from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Move
from ebbtide.core.step import aside
from tasks.route import lease


@aside
def deny_source(world: World, move: Move, _was: None) -> None:
    """Quarantine the release that was left or mended; at level `model` its model as well."""
    world.journal.quarantine(lease(world, move), _contents(move), move.reason or "rolled back")


def source_is_denied(world: World, move: Move) -> Finding:
    """The journal denies it to promotions and default targets."""
    denied = world.journal.quarantined(world.system)
    missing = [what for content, what in _contents(move).items() if content not in denied]
    return failed(f"Not quarantined: {missing}.") if missing else passed("denied from now on")


def _contents(move: Move) -> dict[str, str]:
    bad = move.bad
    if bad is None:
        return {}
    contents = {bad.id: f"release {bad.short}"}
    if move.level is Level.MODEL:
        contents |= {
            change.before.digest: f"model {change.before.name} {change.before}"
            for change in move.changes
            if change.layer == "model" and change.before
        }
    return contents
