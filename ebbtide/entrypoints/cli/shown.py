"""How things look in a terminal."""

import json
import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from ebbtide.core import events
from ebbtide.core.release import Change, Evidence, Release
from ebbtide.core.saga import Plan, Saga, SagaState
from ebbtide.entrypoints.cli.tables import Table

if TYPE_CHECKING:
    from ebbtide.core.planner import Draft
    from ebbtide.core.ports import World

out = Console(highlight=False, soft_wrap=False)

_END = {
    SagaState.COMPLETED: "[bold green]completed[/]: the target serves, proved",
    SagaState.REFUSED: "[bold yellow]refused[/]: nothing was touched",
    SagaState.TAKEN_BACK: "[bold yellow]taken back[/]: the system is where it was",
    SagaState.NEEDS_HUMAN: "[bold red]needs a human[/]: this is left",
    SagaState.OPEN: "[bold]open[/]",
}


def as_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, default=str, ensure_ascii=False)
    sys.stdout.write("\n")


def time(seconds: float | None) -> str:
    """Seconds since the epoch as UTC, to the second."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def table(title: str, *columns: str, free: Collection[str] = ()) -> Table:
    """To be filled, then shown by `show`. `free` columns alone are wrapped."""
    return Table(title, columns, free)


def show(drawn: Table) -> None:
    drawn.show(out)


def pairs(title: str, told: Iterable[tuple[str, str]]) -> None:
    """Keys with their values, each on a line of its own that is never folded."""
    out.print(Text(title, style="bold"))
    for key, value in told:
        out.print(Text(f"  {key:<16} ", style="dim") + Text(value), soft_wrap=True)


def _identity(release: Release, evidence: Evidence | None) -> str:
    """Who a release is, in a line: what a person must see before it goes live."""
    if evidence is None:
        return f"[bold]{release.short}[/] (composed for this order, never recorded)"
    kind = "composed" if evidence.composed else "recorded"
    note = f", {evidence.note}" if evidence.note else ""
    told = f"{kind} {time(evidence.at)} by {evidence.by}{note}"
    return f"[bold]{release.short}[/] {escape(told)}"


def ordered(world: "World", drafted: "Draft") -> None:
    """What an order would make live where."""
    evidence = None if drafted.composed else world.journal.evidence(drafted.target.id)
    who = _identity(drafted.target, evidence)
    out.print(f"{world.system}: {drafted.plan.level} to {who}")


def changes(found: Iterable[Change], title: str) -> Table:
    drawn = table(title, "layer", "what", "from", "to")
    for change in found:
        drawn.add_row(
            change.layer,
            change.name,
            str(change.before or "nothing"),
            str(change.after or "nothing"),
        )
    return drawn


def plan(planned: Plan) -> None:
    """The plan, row by row: what is done, what proves it, what takes it back."""
    phase = None
    for step in planned.steps:
        if step.phase is not phase:
            out.print(f"\n[bold]{step.phase.value}[/]")
            phase = step.phase
        took = f"  [dim]{span(step.seconds)}[/]" if step.seconds is not None else ""
        out.print(f"  [cyan]{step.name}[/]{took}")
        for change in step.changes:
            out.print(Padding(Text(change, style="bold"), (0, 0, 0, 6)))
        _words({"does": step.does, "proof": step.proves, "or else": step.takes_back})
    if planned.shallowest:
        out.print(
            f"\nShallowest level that undoes what the live release changed: {planned.shallowest}"
        )
    known = "not known: a step never ran before"
    known = span(planned.seconds) if planned.seconds is not None else known
    out.print(f"Estimate from recorded runs: {known}.   Plan {planned.digest[:12]}")
    for refusal in planned.refusals:
        out.print("[bold red]Would be refused:[/] ", Text(refusal), sep="", soft_wrap=True)


def _words(told: Mapping[str, str]) -> None:
    grid = Grid.grid(padding=(0, 1))
    for word, text in told.items():
        if text:
            grid.add_row(Text(word, style="dim"), Text(text))
    out.print(Padding(grid, (0, 0, 0, 6)))


def progress(event: events.Event) -> None:
    """A line for each step, as it ends."""
    match event:
        case events.StepProved():
            mark = "[green]✓[/]" if event.finding.passed else "[red]✗[/]"
            why = Text(event.finding.why)
            _line(f"{mark} {event.name:<29} {span(event.seconds):>7}  ", why)
        case events.Progress():
            _line("  [dim]…[/] ", Text(event.line, style="dim"))
        case events.StepTakenBack():
            mark = "[red]✗[/]" if event.error else "[yellow]↩[/]"
            _line(f"{mark} took back {event.name} ", Text(event.error))
        case _:
            pass


def _line(start: str, rest: Text) -> None:
    """One line of the terminal; what does not fit is in the journal."""
    out.print(Text.from_markup(start) + rest, no_wrap=True, overflow="ellipsis", crop=True)


def ending(saga: Saga) -> None:
    """How a saga ended, and what is left."""
    out.print(f"Saga {saga.id} {_END[saga.state]}")
    if saga.why:
        out.print(Text(f"  {saga.why}"), soft_wrap=True)
    for left in saga.left:
        out.print(Text(f"  left: {left}"), soft_wrap=True)
    if saga.state is SagaState.NEEDS_HUMAN:
        command = f"ebbtide recover {saga.system} --saga {saga.id}"
        out.print(Text(f"  once that is mended: {command}"), soft_wrap=True)
