"""`ebbtide lift-quarantine`: a person says that what was rolled back may come again."""

import sys
from typing import Annotated

import typer

from ebbtide.core.errors import Refused
from ebbtide.entrypoints.cli import options as opt

Denied = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE|DIGEST",
        help="A release, with all that it pins, or one content that is denied.",
    ),
]
Why = Annotated[str, typer.Option("--reason", help="Why; it stays in the audit trail.")]


def lift_quarantine(
    system: opt.System,
    what: Denied,
    reason: Why,
    yes: opt.Yes = False,
    by: opt.By = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Let what was quarantined be promoted again, and be the target of a rollback."""
    from ebbtide.core.quarantine import lift, named
    from ebbtide.entrypoints.cli import shown

    world = opt.open_world(system, systems)
    found = named(world, what)
    if not json:
        shown.pairs(f"Quarantined in {system}", ((each[:12], why) for each, why in found.items()))
    if not yes:
        _ask(len(found))
    lifted = lift(world, found, by=opt.who(by), reason=reason)
    if json:
        shown.as_json({"lifted": dict(lifted)})
        return
    shown.out.print(f"Lifted, for {reason}", soft_wrap=True, markup=False)


def _ask(contents: int) -> None:
    if not sys.stdin.isatty():
        raise Refused("Nobody is there to ask.", remedy="Say --yes.")
    if not typer.confirm("Lift it?" if contents == 1 else f"Lift all {contents}?"):
        raise Refused("Not confirmed; nothing was lifted.")
