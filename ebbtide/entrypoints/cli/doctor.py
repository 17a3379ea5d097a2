"""`ebbtide doctor`: would a rollback work right now, and how long would it take?"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebbtide.core.errors import EbbtideError, Unknown, Unreachable
from ebbtide.core.saga import Level
from ebbtide.entrypoints.cli import options as opt

if TYPE_CHECKING:
    from ebbtide.adapters.system.file import SystemFile
    from ebbtide.core.checks import Check
    from ebbtide.core.ports import World
    from ebbtide.core.readiness import LevelReadiness, Readiness

_AT_ONCE = 4
"""Systems that are looked at side by side: a store that is away costs seconds."""
_COLOURS = {
    "yes": "bold green",
    "fine": "green",
    "away": "yellow",
    "for a person": "yellow",
    "nothing to undo": "yellow",
    "no": "bold red",
    "wrong": "bold red",
    "unknown": "bold magenta",
    "not checked": "bold magenta",
}
_SEVEREST = (9, 10, 7, 0)

OnlyLevel = Annotated[
    list[str] | None,
    typer.Option("--level", help="Judge this level only; may be given more than once."),
]
Deep = Annotated[
    bool,
    typer.Option("--deep", help="Hash every kept content, not only what a rollback needs now."),
]
_NAMED = 5
"""Contents that were not hashed and are named to a person; `--json` has all."""


def doctor(
    system: Annotated[str, typer.Argument(help="One system; default: all.")] = "",
    level: OnlyLevel = None,
    deep: Deep = False,
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Say whether a rollback would work right now, where to, and how long it would take.

    Ends with 0 where every level works and all is as it should be, 9 where a
    rollback would not work, 10 where something could not be checked, 7 where a
    pin or a projection is not what it should be. Touches nothing.
    """
    from ebbtide.entrypoints.cli import shown

    names = [system] if system else sorted(file.stem for file in systems.glob("*.yaml"))
    if not names:
        raise Unknown(f"{systems} has no system files.", remedy="Name their folder: --systems.")
    levels = _levels(level)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = list(threads.map(lambda name: _examined(name, systems, levels, deep), names))
    if json:
        shown.as_json([_plain(each) for each in found])
    else:
        for each in found:
            _draw(each)
    codes = {each.exit_code for each in found}
    raise typer.Exit(next(code for code in _SEVEREST if code in codes))


def _levels(given: list[str] | None) -> tuple[Level, ...]:
    from ebbtide.core.saga import ROLLBACKS

    strange = [name for name in given or () if name not in {level.value for level in ROLLBACKS}]
    if strange:
        raise Unknown(
            f"`{strange[0]}` is no level of a rollback.", remedy=f"One of {', '.join(ROLLBACKS)}."
        )
    return tuple(level for level in ROLLBACKS if not given or level.value in given)


def _examined(name: str, systems: Path, levels: tuple[Level, ...], deep: bool) -> "Readiness":
    """One system; whatever is wrong with it keeps nobody from hearing of the others."""
    from ebbtide.adapters.system.file import find_system
    from ebbtide.bootstrap import world_of
    from ebbtide.core.checks import Check, State
    from ebbtide.core.readiness import LevelReadiness, Readiness, Works, examine

    try:
        file = find_system(name, systems)
        with _closed_after(world_of(file)) as world:
            others = [*_places(file, world), *_prefect()]
            steps = opt.entry("flows.levels:STEPS")
            return examine(world, steps, levels=levels, others=others, deep=deep)
    except EbbtideError as fault:
        away = isinstance(fault, Unreachable)
        works = Works.UNKNOWN if away else Works.NO
        state = State.UNKNOWN if away else State.WRONG
        return Readiness(
            name,
            levels=tuple(LevelReadiness(level, works, why=(str(fault),)) for level in levels),
            checks=(Check("the system file and its journal", state, str(fault), stops=True),),
        )


@contextmanager
def _closed_after(world: "World") -> Iterator["World"]:
    """Many systems are looked at in one process: their connections are given back."""
    try:
        yield world
    finally:
        for part in (world.serving, world.journal):
            if hasattr(part, "close"):
                part.close()


def _places(file: "SystemFile", world: "World") -> Iterator["Check"]:
    from ebbtide.adapters.system.places import cannot_write, link_folders, room
    from ebbtide.core.checks import Check, State, looked
    from ebbtide.core.planner import serving

    yield looked(f"folder {file.state_dir}", lambda: cannot_write(file.state_dir), stops=True)
    for folder in link_folders(file):
        yield looked(f"folder {folder}", partial(cannot_write, folder), stops=True)
    try:
        route = serving(world)
        live = world.journal.release(route.release, world.system) if route else None
        wrong, free, needed = room(file.state_dir, live)
    except (EbbtideError, OSError) as fault:
        yield Check("room for a release", State.UNKNOWN, str(fault))
        return
    figures = f"{free / 1e6:,.0f} MB free, {needed / 1e6:,.1f} MB needed"
    state = State.WRONG if wrong else State.FINE
    yield Check("room for a release", state, " ".join(wrong) or figures, stops=bool(wrong))


def _prefect() -> Iterator["Check"]:
    from ebbtide.core.checks import Check, State

    if os.environ.get("PREFECT_API_URL"):
        up = opt.entry("flows.shell:prefect_is_up")()
        why = "" if up else "Its server does not answer; a rollback goes without it."
        yield Check("prefect", State.FINE if up else State.WITHOUT, why)


def _plain(found: "Readiness") -> dict[str, Any]:
    return {**asdict(found), "exit_code": found.exit_code}


def _draw(found: "Readiness") -> None:
    from rich.text import Text

    from ebbtide.entrypoints.cli import shown

    where = f" in epoch {found.epoch}" if found.live else ""
    shown.out.print(f"[bold]{found.system}[/] serves {found.live[:12] or 'nothing'}{where}")
    names = ("roll back", "works now", "to", "takes", "known from")
    drawn = shown.table("", *names, free=("takes", "known from"))
    for level in found.levels:
        works = Text.from_markup(_coloured(level.works))
        drawn.add_row(level.level, works, level.target[:12], *_took(level))
    shown.show(drawn)
    for level in found.levels:
        for why in level.why:
            shown.out.print(Text(f"  {level.level}: {why}"), soft_wrap=True)
    for check in found.checks:
        if check.state != "fine":
            line = Text.assemble(
                Text.from_markup(f"  {_coloured(check.state)} "), f"{check.what}: {check.why}"
            )
            shown.out.print(line, soft_wrap=True)
    fine = sum(check.state == "fine" for check in found.checks)
    shown.out.print(f"  {fine} of {len(found.checks)} checks are fine.")
    for told in _not_hashed(found.not_hashed):
        shown.out.print(Text(f"  {told}"), soft_wrap=True)
    shown.out.print()


def _not_hashed(contents: Sequence[str]) -> Iterator[str]:
    if contents:
        more = f" and {len(contents) - _NAMED} more" if len(contents) > _NAMED else ""
        yield (
            f"Looked at by names and sizes only, not hashed: {', '.join(contents[:_NAMED])}{more}. "
            "No rollback without --to needs them now; --deep hashes them too."
        )


def _took(level: "LevelReadiness") -> tuple[str, str]:
    from ebbtide.entrypoints.cli import shown

    took = level.took
    if took is None:
        return "not known", "never carried out here"
    switched = f", switched after {shown.span(took.switched)}" if took.switched is not None else ""
    plural = "run" if took.runs == 1 else "runs"
    known = f"{took.runs} {plural}, the newest {_ago(took.age)} ago"
    return f"{shown.span(took.median)} (p95 {shown.span(took.p95)}){switched}", known


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _coloured(word: str) -> str:
    return f"[{_COLOURS[word]}]{word}[/]"
