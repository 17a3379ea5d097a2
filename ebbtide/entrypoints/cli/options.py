"""What several commands take, with the words that explain it."""

import getpass
import socket
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebbtide.core.errors import Unknown
from ebbtide.core.saga import ROLLBACKS, Level

if TYPE_CHECKING:
    from ebbtide.core.planner import Order
    from ebbtide.core.ports import World

DEPTHS = ", ".join(level.value for level in ROLLBACKS)

Systems = Annotated[
    Path,
    typer.Option("--systems", envvar="EBBTIDE_SYSTEMS", help="Folder of the system files."),
]
System = Annotated[str, typer.Argument(help="The system, by the name of its file.")]
What = Annotated[
    list[str],
    typer.Argument(
        metavar="[LEVEL] SYSTEM", help=f"How deep ({DEPTHS}; default: system), and which system."
    ),
]
To = Annotated[
    str,
    typer.Option("--to", help="The target release; default: the last one proved good."),
]
Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=VERSION",
        help="The registry version of a model.",
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        "--features", metavar="NAME=COMMIT", help="Level features: the commit of a pipeline."
    ),
]
Table = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="NAME=VERSION",
        help="Level data: the version of a table; a date stands for the version of that time.",
    ),
]
Safe = Annotated[
    str,
    typer.Option(
        "--safe",
        metavar="RELEASE",
        help="Levels features and data: what serves meanwhile; default: the last one proved good.",
    ),
]
Base = Annotated[
    str,
    typer.Option(
        "--base",
        metavar="RELEASE",
        help="Levels features and data: whose other layers stay; default: the live release's.",
    ),
]
AcceptUnproved = Annotated[
    bool,
    typer.Option("--accept-unproved", help="Take a target that was never proved good."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the journal.")]
By = Annotated[str, typer.Option("--by", help="Who orders it; default: you, on this host.")]

DEFAULT_SYSTEMS = Path("configs/systems")


def open_world(system: str, folder: Path) -> "World":
    from ebbtide.bootstrap import open_world

    return open_world(system, folder)


def entry(name: str) -> Any:
    """What an entry point's name (`flows.order:carry_out`) leads to."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def who(by: str) -> str:
    return by or f"{getpass.getuser()}@{socket.gethostname()}"


def level_and_system(words: Sequence[str]) -> tuple[Level, str]:
    """`[LEVEL] SYSTEM` as typed; without a level the whole system."""
    if len(words) == 1:
        return Level.SYSTEM, words[0]
    if len(words) != 2 or words[0] not in DEPTHS.split(", "):
        raise Unknown(
            f"`{' '.join(words)}` is not a level and a system.",
            remedy=f"The levels are {DEPTHS}; the system comes last.",
        )
    return Level(words[0]), words[1]


def versions(given: Sequence[str] | None) -> dict[str, str]:
    """`NAME=VERSION` options as a mapping."""
    pairs = [option.partition("=") for option in given or ()]
    wrong = [name for name, equals, version in pairs if not (name and equals and version)]
    if wrong:
        raise typer.BadParameter(f"`{wrong[0]}` is not NAME=VERSION.")
    return {name: version for name, _, version in pairs}


def order(
    level: Level,
    *,
    by: str,
    to: str = "",
    model: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    table: Sequence[str] | None = None,
    base: str = "",
    safe: str = "",
    reason: str = "",
    accept_unproved: bool = False,
    key: str = "",
) -> "Order":
    from ebbtide.core.planner import Order

    return Order(
        level=level,
        by=who(by),
        to=to,
        models=versions(model),
        features=versions(features),
        tables=versions(table),
        base=base,
        safe=safe,
        reason=reason,
        accept_unproved=accept_unproved,
        key=key,
    )
