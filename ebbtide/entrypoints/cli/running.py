"""Commands that run until they are stopped, or until a story is told."""

import inspect
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ebbtide.core.errors import Refused, Unknown
from ebbtide.entrypoints.cli import options as opt


def serve(
    system: opt.System,
    host: Annotated[str, typer.Option(help="Default: as the system file says.")] = "",
    port: Annotated[int, typer.Option(help="0: any free one. Default: the system file's.")] = -1,
    name: Annotated[str, typer.Option(help="This replica's name; default: host and process.")] = "",
    url: Annotated[
        str,
        typer.Option(
            help="Where other hosts reach this replica, `{port}` for its port; "
            "default: http, the host (of 0.0.0.0: this host's name), and the port."
        ),
    ] = "",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share the port; each is a replica.")
    ] = 1,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Serve a system: answer from the release that the route names, and follow it."""
    from ebbtide.adapters.system.file import find_system
    from ebbtide.bootstrap import world_of

    file = find_system(system, systems)
    host, port = host or file.serving.host, file.serving.port if port < 0 else port
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    if url:
        from ebbtide.entrypoints.gateway.sockets import checked

        checked(url, workers)
    if workers > 1:
        from ebbtide.entrypoints.gateway.supervisor import Service, supervise

        supervise(Service(system, systems, host, port, name, url), world_of(file), workers)
        return
    from ebbtide.entrypoints.gateway import serve as run

    run(file, world_of(file), host=host, port=port, replica_name=name, url=url)


def demo(
    name: Annotated[str, typer.Argument(help="Which one; default: the only one.")] = "",
    incident: Annotated[
        str,
        typer.Option(help="What goes wrong, such as `poisoned-data`; default: the demo's own."),
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the workspace is made; default: a temporary one."),
    ] = None,
) -> None:
    """Play an incident from beginning to end: a bad release, and its rollback."""
    play = _demo(name)
    wishes = (incident,) if incident else ()
    if not _takes(play, Path(), *wishes):
        raise Refused(
            f"That demo has one incident only, not `{incident}`.", remedy="Leave --incident out."
        )
    place = folder or Path(tempfile.mkdtemp(prefix="ebbtide-demo-"))
    raise typer.Exit(play(place, *wishes))


def _demo(name: str) -> Callable[..., int]:
    """A demo that an installed package brings.

    It takes a folder and, where it has several, the name of an incident, and gives an exit code.
    """
    from importlib.metadata import entry_points

    known = {each.name: each for each in entry_points(group="ebbtide.demos")}
    names = ", ".join(sorted(known)) or "none"
    if not name and len(known) == 1:
        (name,) = known
    if name not in known:
        raise Unknown(
            f"There is no demo `{name}`." if name else "Which demo is not said.",
            remedy=f"Installed here: {names}.",
        )
    play: Callable[..., int] = known[name].load()
    return play


def _takes(function: Callable[..., int], *arguments: object) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True
