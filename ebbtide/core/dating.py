"""Dates that stand for versions: resolved once, shown, and held against the journal.

A pin is always a number. A date is only how a person says which one is meant.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ebbtide.core.errors import Refused
from ebbtide.core.ports import World


@dataclass(frozen=True, slots=True)
class Dated:
    """The version of a table that was newest at some moment."""

    table: str
    version: int
    committed: float
    """Seconds since the epoch, as the commit itself says."""


@runtime_checkable
class Dating(Protocol):
    """A layer whose things had a version at any moment."""

    def dated(self, name: str, moment: float) -> Dated:
        """The version that was newest at that moment, in seconds since the epoch.

        Raises `Refused` where the commits cannot say, `NotRestorable` where it
        is gone, `Unknown`.
        """


@dataclass(frozen=True, slots=True)
class Resolved:
    """A date's version, with what the journal says of that moment."""

    dated: Dated
    release: str
    """The release that served then; empty: none."""
    pinned: str
    """The version of the table that it pins; empty: none."""


def resolve(world: World, table: str, moment: float) -> Resolved:
    """The version that a table had at a moment, as far as table and journal agree.

    Raises `Refused` for a moment that has yet to come, and where a release that
    was recorded by then pins a later version: then some clock was wrong.
    """
    tables = world.layers.get("data")
    if not isinstance(tables, Dating):
        raise Refused("The tables of this system cannot be asked for a date.")
    if moment > world.journal.now():
        raise Refused("That date has yet to come.", remedy="Name a date in the past.")
    dated = tables.dated(table, moment)
    for release, evidence in world.journal.releases(world.system):
        pin = release.pin("data", table)
        if pin and evidence.at <= moment and int(pin.at.get("version", 0)) > dated.version:
            raise Refused(
                f"By the table's own log, `{table}` was at version {dated.version} then; release "
                f"{release.short} was recorded before and pins version {pin.at['version']}.",
                remedy="Some clock was wrong: name a version by its number.",
            )
    return _told(world, dated, moment)


def _told(world: World, dated: Dated, moment: float) -> Resolved:
    for tenure in world.journal.tenures(world.system):
        if tenure.since <= moment < (tenure.until or float("inf")):
            release = world.journal.release(tenure.release)
            pin = release.pin("data", dated.table)
            return Resolved(dated, release.short, pin.at.get("version", "") if pin else "")
    return Resolved(dated, "", "")
