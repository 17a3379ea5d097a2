"""`ebbtide gc`: the only way to give a release up."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ebbtide.core.errors import Refused
from ebbtide.entrypoints.cli import options as opt

if TYPE_CHECKING:
    from ebbtide.adapters.system.file import SystemFile
    from ebbtide.core.giving_up import Cleared, Loss, Proposal
    from ebbtide.core.journal import Journal


def gc(
    system: opt.System,
    yes: opt.Yes = False,
    reason: opt.Reason = "",
    by: opt.By = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Give up releases that nothing retains any more, and show first what would be lost.

    Only what ebbtide keeps itself is deleted. A release that is given up is no
    target of a rollback any more; recording it again makes it one. Leases of
    retained releases that are missing are taken again. With --json and without
    --yes it only shows.
    """
    from ebbtide.adapters.system.file import find_system
    from ebbtide.bootstrap import world_of
    from ebbtide.core.giving_up import give_up, propose
    from ebbtide.entrypoints.cli import shown

    file = find_system(system, systems)
    world, also = world_of(file), _sharing(file, systems)
    found = propose(world, also)
    plain = _plain(found)
    if json and not yes:
        shown.as_json(plain)
        return
    if not json:
        _draw(found)
    if found.losses and not yes:
        _ask(len(found.losses))
    done = give_up(world, found, by=opt.who(by), reason=reason, also=also)
    if json:
        shown.as_json({**plain, "done": asdict(done)})
    else:
        _tell(done)
    sys.exit(1 if done.broken else 0)


def _sharing(file: "SystemFile", systems: Path) -> list["Journal"]:
    """Journals of other systems that keep contents in the same folder.

    Raises `BadConfiguration` where one cannot be read: nobody could say what it needs.
    """
    from ebbtide.adapters.journal import open_journal
    from ebbtide.adapters.system.file import find_system

    others = [find_system(each.stem, systems) for each in sorted(systems.glob("*.yaml"))]
    urls = {
        other.journal_url
        for other in others
        if other.state_dir.resolve() == file.state_dir.resolve()
    }
    return [open_journal(url) for url in sorted(urls - {file.journal_url})]


def _ask(releases: int) -> None:
    if not sys.stdin.isatty():
        raise Refused("Nobody is there to ask.", remedy="Say --yes.")
    if not typer.confirm("Give it up?" if releases == 1 else f"Give up all {releases}?"):
        raise Refused("Not confirmed; nothing was given up.")


def _draw(found: "Proposal") -> None:
    from ebbtide.entrypoints.cli import shown

    if not found.losses:
        shown.out.print(f"Nothing of {found.system} can be given up.", soft_wrap=True)
        return
    names = ("release", "recorded", "layer", "would go", "nowhere else")
    drawn = shown.table(f"What {found.system} can give up", *names, free=names[2:])
    for loss in found.losses:
        sizes = _sizes(loss) or {"": 0}
        for n, (layer, size) in enumerate(sizes.items()):
            last = [line for line in loss.last if line.startswith(f"{layer} ")]
            first = (loss.release[:12], shown.time(loss.recorded)) if n == 0 else ("", "")
            drawn.add_row(*first, layer, f"{size / 1e6:,.1f} MB", "; ".join(last))
    shown.show(drawn)


def _tell(done: "Cleared") -> None:
    from ebbtide.entrypoints.cli import shown

    lines = [f"Given up: {len(done.given_up)} releases, {len(done.deleted)} contents deleted."]
    if done.payloads:
        lines.append(f"Payloads of {done.payloads} effects deleted.")
    lines += [f"Leased again: {release[:12]}" for release in done.leased]
    lines += [f"A lease is broken: {line}" for line in done.broken]
    for line in lines:
        shown.out.print(line, soft_wrap=True, markup=False)


def _sizes(loss: "Loss") -> dict[str, int]:
    from ebbtide.adapters.disk.keeping import size

    return {layer: sum(size(place) for place in places) for layer, places in loss.places.items()}


def _plain(found: "Proposal") -> dict[str, Any]:
    return {
        "system": found.system,
        "can_be_given_up": [
            {
                "release": loss.release,
                "recorded": loss.recorded,
                "bytes": _sizes(loss),
                "nowhere_else": list(loss.last),
            }
            for loss in found.losses
        ],
        "retained": {release: list(why) for release, why in found.kept.items()},
        "unfinished": [str(place) for place in found.unfinished],
        "done": None,
    }
