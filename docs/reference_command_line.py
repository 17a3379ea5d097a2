"""The reference of the command line, from the commands themselves."""

from collections.abc import Iterator
from typing import Any

from markup import heading, page, table


def write() -> str:
    """Every command with its arguments and options."""
    import typer.main

    from ebbtide.entrypoints.cli.main import app

    group = typer.main.get_command(app)
    parts = [
        "# Command line",
        f"{group.help} `ebbtide COMMAND --help` prints the same.",
        "What a command ends with: [exit codes](exit-codes.md).",
    ]
    for name, command in sorted(_commands(group)):
        usage = " ".join(["ebbtide", name, *(_in_usage(param) for param in command.params)])
        rows = [_parameter(param) for param in command.params]
        parts += [heading(name), command.help or "", f"```sh\n{usage}\n```"]
        parts += [table(("argument or option", "meaning", "default"), rows)] if rows else []
    return page(parts)


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        elif not command.hidden:
            yield f"{before}{name}", command


def _in_usage(param: Any) -> str:
    if param.param_type_name == "argument":
        shown = _value(param)
    else:
        shown = param.opts[0] if param.is_flag else f"{param.opts[0]} {_value(param)}"
    return shown if param.required else f"[{shown}]"


def _parameter(param: Any) -> tuple[str, str, str]:
    shown = _value(param)
    if param.param_type_name == "option":
        names = ", ".join([*param.opts, *param.secondary_opts])
        shown = names if param.is_flag else f"{names} {shown}"
    says = param.help or ""
    if getattr(param, "envvar", None):
        says += f" Or the environment variable `{param.envvar}`."
    if param.required:
        return f"`{shown}`", says, "required"
    told = param.default not in (None, "", False, -1) and not callable(param.default)
    return f"`{shown}`", says, f"`{param.default}`" if told else ""


def _value(param: Any) -> str:
    return str(param.metavar or param.name.upper())
