"""Side effects on the command line: what is queued, sent or undone, and the dispatcher."""

import csv
import os
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebbtide.core.effects import Effect, State, for_a_person
from ebbtide.core.errors import Held, Refused, Unreachable
from ebbtide.entrypoints.cli import options as opt

if TYPE_CHECKING:
    from ebbtide.core.dispatch import Attempt
    from ebbtide.core.ports import World

_SHOWN = 40
"""Effects that a person is shown; `--json` has all."""
_COLUMNS = (
    "key", "kind", "class", "release", "state", "queued_at", "sent_at", "why", "payload", "answer",
)  # fmt: skip
_ABOUT_SOMEBODY = ("payload", "undo", "answer")
"""What of an effect is shown only to who asks for it."""

_State = Annotated[State | None, typer.Option("--state", help="Only those that are in this state.")]
_Saga = Annotated[str, typer.Option("--saga", help="Only those that this saga settled or queued.")]
_CsvFile = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="With --saga: write what a person has to correct."),
]
_Dispatch = Annotated[bool, typer.Option("--dispatch", help="Send what is due to its targets.")]
_Watch = Annotated[
    bool, typer.Option("--watch", help="With --dispatch: go on until it is stopped.")
]
_Every = Annotated[float, typer.Option("--every", help="Seconds between two looks.")]
_Retry = Annotated[
    str,
    typer.Option("--retry", metavar="KEY", help="Send this failed or cancelled one after all."),
]
_Payloads = Annotated[
    bool,
    typer.Option("--payloads", help="Also what is sent, and what was answered."),
]


def effects(
    system: opt.System,
    state: _State = None,
    saga: _Saga = "",
    csv_file: _CsvFile = None,
    payloads: _Payloads = False,
    dispatch: _Dispatch = False,
    watch: _Watch = False,
    every: _Every = 0.5,
    retry: _Retry = "",
    reason: opt.Reason = "",
    by: opt.By = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """What the system set off in the world, what became of it, and the sending itself."""
    world = opt.open_world(system, systems)
    if csv_file is not None and not saga:
        raise Refused("--csv lists what one saga left to correct.", remedy="Name it: --saga ID.")
    if dispatch:
        sys.exit(_watch(world, every) if watch else _once(world))
    if retry:
        effect = world.journal.requeue_effect(system, retry, by=opt.who(by), reason=reason)
        found = _Found([effect], [])
    else:
        found = _looked(world, state, saga)
    if csv_file is not None:
        _write(csv_file, found.corrections)
    _show(world, found, json=json, payloads=payloads)


@dataclass(frozen=True, slots=True)
class _Found:
    """Effects, and those among them that a person has to correct, each with why."""

    effects: Sequence[Effect]
    corrections: Sequence[tuple[Effect, str]]


def _looked(world: "World", state: State | None, saga: str) -> _Found:
    settler = world.journal.saga(saga).id if saga else ""
    found = world.journal.effects(world.system, saga=settler)
    corrections = [(effect, why) for effect, why in for_a_person(found) if effect.saga]
    return _Found([effect for effect in found if state in (None, effect.state)], corrections)


def _once(world: "World") -> int:
    """Exit code 1 where something was given up."""
    from ebbtide.core.dispatch import all_due

    held = world.journal.effects_held(world.system)
    if held is not None:
        raise Held(
            f"Saga {held.saga} holds the dispatch of {world.system}'s side effects.",
            remedy="Try again once it has ended: `ebbtide status` tells.",
        )
    return 1 if all_due(world, _tell) else 0


def _watch(world: "World", every: float) -> int:
    """Until SIGTERM or SIGINT: what is under way is finished and written down."""
    from ebbtide.core.dispatch import all_due

    with _stopping() as stop:
        typer.echo(f"Sending what {world.system} sets off.")
        while not stop.is_set():
            try:
                all_due(world, _tell, stop=stop.is_set)
            except Unreachable as fault:  # it comes back, or somebody stops this
                typer.echo(f"ebbtide: {fault}", err=True)
            stop.wait(every)
    return 0


@contextmanager
def _stopping() -> Iterator[Event]:
    stop = Event()
    before = {
        each: signal.signal(each, lambda *_: stop.set()) for each in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _tell(attempt: "Attempt") -> None:
    effect, sent = attempt.effect, attempt.sent
    again = "" if attempt.wait is None else f" Again in {attempt.wait:.1f} s."
    lost = " Given up." if attempt.lost else ""
    typer.echo(f"{effect.key}: {sent.said}{again}{lost}")


def _show(world: "World", found: _Found, *, json: bool, payloads: bool) -> None:
    from ebbtide.entrypoints.cli import shown

    held = world.journal.effects_held(world.system)
    if json:
        shown.as_json(
            {
                "held_by": held.saga if held else "",
                "effects": [_plain(effect, payloads=payloads) for effect in found.effects],
                "corrections": [
                    {"key": effect.key, "why": why} for effect, why in found.corrections
                ],
            }
        )
        return
    _draw(world.system, found.effects)
    if payloads:
        _show_payloads(found.effects[-_SHOWN:])
    for effect, why in found.corrections:
        shown.out.print(f"For a person: {effect.key}. {why}", markup=False, soft_wrap=True)
    if held:
        shown.out.print(f"Saga {held.saga} holds the dispatch since {shown.time(held.since)}.")


def _plain(effect: Effect, *, payloads: bool) -> dict[str, Any]:
    whole = asdict(effect)
    return {name: whole[name] for name in whole if payloads or name not in _ABOUT_SOMEBODY}


def _draw(system: str, found: Sequence[Effect]) -> None:
    from ebbtide.entrypoints.cli import shown

    drawn = shown.table(
        f"Effects of {system}",
        *("key", "kind", "class", "release", "queued", "state", "tried", "why"),
        free=("why",),
    )
    for effect in found[-_SHOWN:]:
        row = (effect.key, effect.kind, effect.klass.value, effect.release[:12])
        state = f"{effect.state.value}?" if _doubtful(effect) else effect.state.value
        drawn.add_row(*row, shown.time(effect.queued_at), state, str(effect.attempts), effect.why)
    shown.show(drawn)
    if len(found) > _SHOWN:
        shown.out.print(f"The newest {_SHOWN} of {len(found)}: --json has all.")
    if any(_doubtful(effect) for effect in found):
        shown.out.print("`?`: it may have arrived all the same.")


def _show_payloads(found: Sequence[Effect]) -> None:
    from ebbtide.core.digests import canonical
    from ebbtide.entrypoints.cli import shown

    for effect in found:
        sent = canonical(effect.payload).decode()
        answered = f" answered: {effect.answer}" if effect.answer else ""
        shown.out.print(f"{effect.key}: {sent}{answered}", markup=False, soft_wrap=True)


def _doubtful(effect: Effect) -> bool:
    return effect.unsure and effect.state in (State.CANCELLED, State.FAILED, State.QUEUED)


def _write(path: Path, corrections: Collection[tuple[Effect, str]]) -> None:
    """All or nothing: a list that is half there would be taken for the whole."""
    from ebbtide.core.digests import canonical
    from ebbtide.entrypoints.cli import shown

    text = StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(_COLUMNS)
    for effect, why in corrections:
        times = (shown.time(effect.queued_at), shown.time(effect.sent_at))
        payload = canonical(effect.payload).decode()
        who = (effect.key, effect.kind, effect.klass.value, effect.release)
        row = (*who, effect.state.value, *times, why, payload, effect.answer)
        lines.writerow([_harmless(cell) for cell in row])
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text.getvalue(), encoding="utf-8")
        part.replace(path)
    except OSError as fault:
        part.unlink(missing_ok=True)
        raise Refused(f"{path} cannot be written: {fault.strerror}.") from fault


def _harmless(cell: str) -> str:
    """A spreadsheet takes what begins so for a formula, and a receiver may answer anything."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
