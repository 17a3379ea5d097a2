"""`ebbtide recover`: finish what a process left behind that died."""

import sys
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Annotated

import typer

from ebbtide.core.errors import EbbtideError, Unknown
from ebbtide.core.saga import Saga, SagaState
from ebbtide.entrypoints.cli import options as opt

_HALTED = 8
"""Exit code where a saga needs a person, as everywhere."""


def recover(
    system: Annotated[str, typer.Argument(help="One system; default: all.")] = "",
    saga: Annotated[
        str,
        typer.Option("--saga", help="A saga that needed a person, once its cause is mended."),
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on looking until it is stopped.")
    ] = False,
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.")] = 5.0,
    by: opt.By = "",
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Finish sagas whose process died: forward where they were proved, else back.

    A saga is taken over once its lease has run out, 15 seconds after its last
    sign of life. Running this twice, or on two hosts, does it once.
    """
    names = [system] if system else sorted(file.stem for file in systems.glob("*.yaml"))
    if not names:
        raise Unknown(f"{systems} has no system files.", remedy="Name their folder: --systems.")
    if saga and not system:
        raise Unknown("--saga needs the system's name.", remedy="ebbtide recover SYSTEM --saga ID")
    while True:
        ended, faults = _look(names, systems, opt.who(by), saga)
        _tell(ended, json=json, quietly=watch)
        if not watch:
            break
        sleep(every)
    if faults:
        raise faults[0]
    if any(each.state is SagaState.NEEDS_HUMAN for each in ended):
        sys.exit(_HALTED)


def _look(
    names: Sequence[str], systems: Path, by: str, saga: str
) -> tuple[list[Saga], list[EbbtideError]]:
    """Look at every system; one that cannot be looked at does not hide the others."""
    finish, pay = opt.entry("flows.unfinished:finish"), opt.entry("flows.unfinished:pay")
    ended: list[Saga] = []
    faults: list[EbbtideError] = []
    for name in names:
        try:
            world = opt.open_world(name, systems)
            ended += finish(world, by=by, saga=saga)
            for line in pay(world, by=by):
                typer.echo(f"{name}: {line}", err=True)
        except EbbtideError as fault:
            typer.echo(f"{name}: {fault}", err=True)
            faults.append(fault)
    return ended, faults


def _tell(ended: Sequence[Saga], *, json: bool, quietly: bool) -> None:
    from ebbtide.entrypoints.cli import shown

    if json:
        shown.as_json([_plain(saga) for saga in ended])
        return
    for saga in ended:
        shown.ending(saga)
    if not ended and not quietly:
        shown.out.print("Nothing was abandoned.")


def _plain(saga: Saga) -> dict[str, object]:
    return {
        "saga": saga.id,
        "system": saga.system,
        "state": saga.state.value,
        "why": saga.why,
        "left": list(saga.left),
    }
