"""The JSON schema of a system file, for editors."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ebbtide.core.errors import BadConfiguration


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it there; default: print it.")
    ] = None,
) -> None:
    """Print the JSON schema of a system file: an editor then explains every key."""
    from ebbtide.adapters.system import file as system_file

    text = json.dumps(system_file.schema(), indent=2)
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as fault:
        raise BadConfiguration(f"{output} cannot be written: {fault.strerror}.") from fault
