"""Tables on the command line: dates that stand for versions, and rows that were left behind."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ebbtide.core.errors import Refused
from ebbtide.entrypoints.cli import options as opt

if TYPE_CHECKING:
    from ebbtide.core.dating import Resolved
    from ebbtide.core.ports import World

_ASK = re.compile(r"(?:(?P<version>[0-9]+)@)?(?P<date>[0-9]{4}-.+)")
"""A date alone, or `VERSION@DATE`: the number that the date is expected to mean."""


def export_rows(
    system: opt.System,
    table: Annotated[str, typer.Argument(help="The table, as the system file names it.")],
    saga: Annotated[str, typer.Option("--saga", help="The saga that left the rows behind.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="A new Parquet file.")],
    json: opt.Json = False,
    systems: opt.Systems = opt.DEFAULT_SYSTEMS,
) -> None:
    """Write the rows that a restored table does not show any more to a Parquet file."""
    from ebbtide.core.left import Leaving
    from ebbtide.entrypoints.cli import shown

    world = opt.open_world(system, systems)
    tables = world.layers.get("data")
    if not isinstance(tables, Leaving):
        raise Refused(f"{system} has no tables whose rows are kept.")
    rows = tables.export_left(table, world.journal.saga(saga).id, to)
    if json:
        shown.as_json({"rows": rows, "file": str(to)})
    else:
        shown.out.print(f"{rows:,} rows of {table} are in {to}", soft_wrap=True, markup=False)


def with_versions(
    world: "World", tables: Mapping[str, str], *, yes: bool, quiet: bool
) -> dict[str, str]:
    """What was asked of each table, every date replaced by the version that it means.

    It is shown, unless `quiet`. Where nobody is asked (`yes`), a date alone is
    refused: `VERSION@DATE` says which version it has to mean.
    """
    asked = {name: _ASK.fullmatch(ask) for name, ask in tables.items()}
    versions = dict(tables)
    for name, match in asked.items():
        if match:
            versions[name] = _version(world, name, match, yes=yes, quiet=quiet)
    return versions


def _version(world: "World", name: str, ask: re.Match[str], *, yes: bool, quiet: bool) -> str:
    from ebbtide.core.dating import resolve
    from ebbtide.entrypoints.cli import shown

    found = resolve(world, name, _moment(ask["date"]))
    version = str(found.dated.version)
    if not quiet:
        shown.out.print(_said(found, ask["date"]), soft_wrap=True, markup=False)
    if ask["version"] and ask["version"] != version:
        raise Refused(f"{ask['date']} is version {version} of {name}, not {ask['version']}.")
    if yes and not ask["version"]:
        raise Refused(
            f"{ask['date']} is no version of `{name}`, and nobody is asked whether {version} "
            "is the one that is meant.",
            remedy=f"Say --table {name}={version}@{ask['date']}, or leave --yes out.",
        )
    return version


def _moment(text: str) -> float:
    """Seconds since the epoch; UTC where the text names no offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as fault:
        raise Refused(f"`{text}` is no date.", remedy="Such as 2026-11-20T03:00:00") from fault
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _said(found: "Resolved", asked: str) -> str:
    from ebbtide.entrypoints.cli import shown

    dated = found.dated
    committed = shown.time(dated.committed)
    text = f"{dated.table} at {asked} is version {dated.version}, committed {committed}."
    if not found.release:
        return f"{text} No release served then."
    pinned = f"version {found.pinned} of it" if found.pinned else "no version of it"
    return f"{text} Release {found.release} served then and pins {pinned}."
