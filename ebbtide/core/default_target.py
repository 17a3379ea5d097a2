"""Where a rollback goes that names no target: to what was proved good, before what is in doubt."""

from collections.abc import Collection

from ebbtide.core.materialisations import Families, families
from ebbtide.core.ports import World
from ebbtide.core.release import Release
from ebbtide.core.saga import Level


def proved_good(world: World) -> list[str]:
    """Ids of the releases that were proved good in production, newest tenure first.

    Good is what was proved by its saga and then served long enough: a release
    that was taken back within the hour has shown nothing. A refresh counts as
    the release that it refreshes, and comes before it.
    """
    known = families(world.journal, world.system)
    return _proved_good(world, known, world.journal.quarantined(world.system))


def _proved_good(world: World, known: Families, denied: Collection[str]) -> list[str]:
    out = {*denied, *world.journal.given_up(world.system)}
    good = world.journal.proved(world.system, world.policy.proved_after)
    widened = known.widened(release for release in good if release not in out)
    return [release for release in widened if release not in out]


def last_good(world: World, source: Release, level: Level = Level.SYSTEM) -> Release | None:
    """Where a rollback from `source` goes: to what was good before the newest change of its kind.

    A refresh changes data and nothing else. So level `data` goes back to before it, levels
    `model` and `features` to an earlier release. The whole system goes back to before a refresh
    that has not served long enough to be proved good itself, or whose release has left its
    cool-down; else it is the release that came into doubt, with whatever was refreshed of it.
    """
    route = world.journal.route(world.system)
    if route is None or route.release != source.id:
        return release_before(world, source)  # of what does not serve, more is in doubt
    known = families(world.journal, world.system)
    doubted = level is Level.SYSTEM and _refresh_is_doubted(world, source, known)
    return _newest_good(world, source, known, also_refreshed=doubted or level is Level.DATA)


def release_before(world: World, source: Release) -> Release | None:
    """The newest materialisation of the last good release that `source` is no refresh of.

    Where there is no such release, one of the same that was refreshed earlier.
    """
    known = families(world.journal, world.system)
    return _newest_good(world, source, known, also_refreshed=False)


def _newest_good(
    world: World, source: Release, known: Families, *, also_refreshed: bool
) -> Release | None:
    """`also_refreshed`: also another materialisation of the source's own release.

    What was refreshed of a quarantined one is gone back to only where there is no other.
    """
    denied = world.journal.quarantined(world.system)
    good = [each for each in _proved_good(world, known, denied) if each != source.id]
    bad = {known.root(each) for each in denied}
    if not also_refreshed:
        bad.add(known.root(source.id))
    best = [release for release in good if known.root(release) not in bad] or good
    return world.journal.release(best[0], world.system) if best else None


def _refresh_is_doubted(world: World, source: Release, known: Families) -> bool:
    """Whether it is a refresh that is to be doubted, and not the release that it refreshes."""
    if known.root(source.id) == source.id:
        return False
    proved = source.id in world.journal.proved(world.system, world.policy.proved_after)
    return not proved or not in_cool_down(world, source)


def in_cool_down(world: World, live: Release) -> bool:
    """Whether the live release may still have to be rolled back for what it is.

    It counts from the promotion, whatever was refreshed since.
    """
    known = families(world.journal, world.system)
    since = world.journal.now()
    for tenure in world.journal.tenures(world.system):
        if known.root(tenure.release) != known.root(live.id):
            break
        since = tenure.since
    return world.journal.now() - since < world.policy.retention.cool_down
