"""`ebbtide releases`: what was recorded, and how each stands now."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ebbtide.core.errors import BadConfiguration, Unknown
from ebbtide.entrypoints.cli import options as opt

if TYPE_CHECKING:
    from ebbtide.core.ports import World
    from ebbtide.core.release import Evidence, Release
    from ebbtide.core.tenure import Tenure

At = Annotated[
    str,
    typer.Option("--at", metavar="TIME", help="Which release served then (ISO 8601, UTC)."),
]
All = Annotated[bool, typer.Option("--all", help="Composed releases that never served, too.")]
_RELEASES = ("release", "recorded", "by", "standing", "note")


def releases(
    system: opt.System,
    at: At = "",
    everything: All = False,
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """List the releases, newest first, or say which one served at a given time.

    What a refused order has composed never served; only --all lists it.
    """
    from ebbtide.entrypoints.cli import shown

    world = opt.open_world(system, systems)
    if at:
        tenure = _at(world.journal.tenures(system), at)
        shown.as_json(asdict(tenure)) if json else shown.out.print(
            f"{tenure.release[:12]} served from {shown.time(tenure.since)} "
            f"to {shown.time(tenure.until) or 'now'} as epoch {tenure.epoch}"
        )
        return
    drawn = shown.table("", *_RELEASES, free=_RELEASES[1:])
    rows = list(_standing(world, everything))
    if json:
        shown.as_json(
            [{"id": each.id, "standing": words, **asdict(known)} for each, words, known in rows]
        )
        return
    for each, words, known in rows:
        drawn.add_row(each.short, shown.time(known.at), known.by, ", ".join(words), known.note)
    shown.show(drawn)
    if any("quarantined" in words for _, words, _ in rows):
        shown.out.print(
            f"Lift it: ebbtide lift-quarantine {system} RELEASE --reason TEXT", soft_wrap=True
        )


def _standing(
    world: "World", everything: bool
) -> Iterator[tuple["Release", list[str], "Evidence"]]:
    """Each release with what it is now, newest first."""
    from ebbtide.core.default_target import proved_good
    from ebbtide.core.planner import serving
    from ebbtide.core.quarantine import denying

    route, good = serving(world), set(proved_good(world))
    denied = world.journal.quarantined(world.system)
    gone = world.journal.given_up(world.system)
    served = {tenure.release for tenure in world.journal.tenures(world.system)}
    for release, evidence in world.journal.releases(world.system):
        if evidence.composed and release.id not in served and not everything:
            continue
        words = {
            "live": route is not None and route.release == release.id,
            "proved good": release.id in good,
            "quarantined": bool(denying(denied, release)),
            "composed": evidence.composed,
            "given up": release.id in gone,
        }
        yield release, [word for word, holds in words.items() if holds], evidence


def _at(tenures: list["Tenure"], at: str) -> "Tenure":
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as fault:
        raise BadConfiguration(f"`{at}` is not a time.", remedy="2026-11-20T03:00:00") from fault
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    for tenure in tenures:
        if tenure.since <= seconds < (tenure.until or float("inf")):
            return tenure
    raise Unknown(f"No release served at {at}.")
