"""Batch outputs: what was written with which release, and how bad ones are taken back."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebbtide.core.errors import Refused
from ebbtide.entrypoints.cli import options as opt

if TYPE_CHECKING:
    from ebbtide.core.outputs import Blame, Part, Read, Recall
    from ebbtide.core.ports import World

_SHOWN = 40
"""Parts that a person is shown; `--json` has all."""


def outputs(
    system: opt.System,
    output: Annotated[str, typer.Option("--output", help="Only this output.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Also what was replaced since.")] = False,
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """What batch jobs wrote, with which release, how it stands, and who has read it."""
    from ebbtide.entrypoints.cli import shown

    world = opt.open_world(system, systems)
    parts = world.journal.parts(system, output, standing=not every)
    reads = world.journal.reads(system, output)
    if json:
        shown.as_json(
            {
                "parts": [_part(part) for part in parts],
                "reads": [_read(read) for read in reads],
                "consumers": _declared(world),
                "recalls": [_recall(recall) for recall in world.journal.recalls(system)],
            }
        )
        return
    _show_parts(parts, f"Batch outputs of {system}")
    _show_consumers(reads, _declared(world))


def invalidate(
    system: opt.System,
    release: Annotated[
        str, typer.Option("--release", help="All that this release wrote is bad.")
    ] = "",
    model: Annotated[
        str,
        typer.Option("--model", metavar="NAME=VERSION", help="All that this model scored is bad."),
    ] = "",
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="All written from then on is bad: UTC.")
    ] = "",
    until: Annotated[
        str, typer.Option("--to", metavar="TIME", help="The end of that time; it must be over.")
    ] = "",
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Score what is bad anew, with a good release.")
    ] = False,
    good: Annotated[
        str, typer.Option("--with", metavar="RELEASE", help="The good one; default: the live one.")
    ] = "",
    yes: opt.Yes = False,
    reason: opt.Reason = "",
    by: opt.By = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Recall bad batch outputs, say who has read them, and score them anew."""
    from ebbtide.entrypoints.cli import shown

    recalls = "flows.recalls"
    world = opt.open_world(system, systems)
    blame: Blame = opt.entry(f"{recalls}:blame_of")(release, model, since, until)
    wish = opt.entry(f"{recalls}:Wish")(blame, opt.who(by), reason, rescore, good)
    # Before anything is recalled: what is missing for scoring is refused here.
    how = {"spread": opt.entry("flows.spreading:spread_of")(system, systems)} if rescore else {}
    if not yes:
        _ask(opt.entry(f"{recalls}:blamed")(world, wish), blame)
    outcome = opt.entry(f"{recalls}:invalidate")(world, wish, **how)
    if json:
        shown.as_json(_outcome(outcome))
    else:
        _show(outcome, system)
    sys.exit(1 if outcome.failures else 0)


def _ask(parts: "list[Part]", blame: "Blame") -> None:
    if not sys.stdin.isatty():
        raise Refused("Nobody is there to ask.", remedy="Say --yes.")
    _show_parts(parts, f"To blame: {blame}")
    if not typer.confirm(f"Recall {sum(not part.recall for part in parts)} parts?"):
        raise Refused("Not confirmed; nothing was recalled.")


def _show_parts(parts: "list[Part]", title: str) -> None:
    from ebbtide.entrypoints.cli import shown

    drawn = shown.table(title, "output", "partition", "run", "release", "rows", "written", "state")
    for part in parts[-_SHOWN:]:
        drawn.add_row(
            part.output,
            part.partition,
            part.run,
            part.release[:12],
            "?" if part.rows is None else f"{part.rows:,}",
            shown.time(part.written_at),
            part.state,
        )
    shown.show(drawn)
    if len(parts) > _SHOWN:
        shown.out.print(f"The newest {_SHOWN} of {len(parts)}: --json has all.")


def _show_consumers(reads: "list[Read]", declared: dict[str, dict[str, str]]) -> None:
    """Who was given any of it; then who is declared and was not."""
    from ebbtide.entrypoints.cli import shown

    drawn = shown.table("Consumers", "consumer", "output", "partitions", "first", "last", "tell")
    for read in reads:
        contact = declared.get(read.output, {}).pop(read.consumer, "")
        count = str(len(read.parts))
        first, last = shown.time(read.first_at), shown.time(read.last_at)
        drawn.add_row(read.consumer, read.output, count, first, last, contact)
    for name, consumers in declared.items():
        for consumer, contact in consumers.items():
            drawn.add_row(consumer, name, "none", "", "", contact)
    shown.show(drawn)


def _show(outcome: Any, system: str) -> None:
    from ebbtide.entrypoints.cli import shown

    shown.out.print(
        f"{len(outcome.parts)} parts are invalid, {outcome.new} of them newly; "
        f"{outcome.rescored} scored anew, {len(outcome.waiting)} waiting."
    )
    drawn = shown.table("Read by", "consumer", "output", "partitions", "first", "last", "tell")
    for each in outcome.reached:
        count = str(len(each.partitions)) if each.partitions else "none seen"
        first, last = shown.time(each.first_at), shown.time(each.last_at)
        drawn.add_row(each.consumer, each.output, count, first, last, each.contact)
    if outcome.reached:
        shown.show(drawn)
    for place, why in outcome.failures.items():
        shown.out.print(f"Not scored: {place}: {why}", markup=False, soft_wrap=True)
    for output, why in outcome.owed.items():
        shown.out.print(f"Not marked yet: {output}: {why}", markup=False, soft_wrap=True)
    if outcome.owed:
        shown.out.print(f"Once its table is back: ebbtide recover {system}")
    if outcome.waiting and not outcome.failures:
        shown.out.print(f"Score them anew with --rescore: ebbtide invalidate {system} ...")


def _declared(world: "World") -> dict[str, dict[str, str]]:
    told = world.outputs.told if world.outputs else {}
    return {name: dict(output.consumers) for name, output in told.items()}


def _part(part: "Part") -> dict[str, Any]:
    return {
        "output": part.output,
        "partition": part.partition,
        "run": part.run,
        "release": part.release,
        "models": dict(part.models),
        "begun_at": part.begun_at,
        "written_at": part.written_at,
        "rows": part.rows,
        "version": part.version,
        "replaced_by": part.replaced_by,
        "recall": part.recall,
        "marked": part.marked,
        "state": part.state.value,
    }


def _read(read: "Read") -> dict[str, Any]:
    return {
        "output": read.output,
        "consumer": read.consumer,
        "parts": sorted(read.parts),
        "first_at": read.first_at,
        "last_at": read.last_at,
    }


def _recall(recall: "Recall") -> dict[str, Any]:
    return {
        "id": recall.id,
        "blame": recall.blame.to_json(),
        "by": recall.by,
        "reason": recall.reason,
        "saga": recall.saga,
        "at": recall.at,
    }


def _outcome(outcome: Any) -> dict[str, Any]:
    return {
        "parts": [_part(part) for part in outcome.parts],
        "new": outcome.new,
        "rescored": outcome.rescored,
        "waiting": len(outcome.waiting),
        "consumers": [
            {
                "consumer": each.consumer,
                "contact": each.contact,
                "output": each.output,
                "partitions": list(each.partitions),
                "first_at": each.first_at,
                "last_at": each.last_at,
            }
            for each in outcome.reached
        ],
        "failures": dict(outcome.failures),
        "owed": dict(outcome.owed),
    }
