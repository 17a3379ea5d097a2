"""`ebbtide init`: look at what is there, ask what cannot be seen, write a system file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.core.errors import BadConfiguration, Refused
from ebbtide.entrypoints.cli import options as opt
from ebbtide.entrypoints.cli.init import flags as flag
from ebbtide.entrypoints.cli.init.answers import Flags, slug, values
from ebbtide.entrypoints.cli.init.asking import NONE, Asker

if TYPE_CHECKING:
    from ebbtide.adapters.discovery.places import Discovery, Source


def init(
    name: flag.Name = "",
    mlflow: flag.Mlflow = "",
    model: flag.Models = None,
    features: flag.Features = None,
    table: flag.Tables = None,
    look: flag.Look = None,
    config: flag.Config = None,
    prompt: flag.Prompts = None,
    serving: flag.Serving = "",
    golden: flag.Golden = "",
    redis: flag.Redis = "",
    port: flag.Port = -1,
    root: flag.Root = flag.HERE,
    output: flag.Output = None,
    force: flag.Force = False,
    yes: flag.Yes = False,
) -> None:
    """Describe a system of yours: find its parts, ask what cannot be seen, write its file.

    `none` as a value leaves a kind out. Nothing but the one file is written.
    """
    from ebbtide.entrypoints.cli.init import file as init_file
    from ebbtide.entrypoints.cli.init import shown as init_shown

    asker = Asker(yes)
    root = _root(root)
    name, path = _named(name, root, output, asker)
    if not force:
        init_file.refuse_existing(path)
    found = _looked(root, path.parent, mlflow, redis, look or [], asker)
    init_shown.discovery(found)
    models, outs, tables, folders, prompts = map(_all, (model, features, table, config, prompt))
    flags = Flags(models, outs, tables, folders, prompts, serving, golden, redis, port)
    data = values(name, os.path.relpath(root, path.parent), found, flags, asker)
    _refuse_nothing(data, root)
    init_shown.chosen(data)
    _write(path, data, asker, force)
    init_shown.hints(data, found)
    init_shown.next_steps(name, path, port if port >= 0 else 5001)


def _all(said: list[str] | None) -> tuple[str, ...]:
    return tuple(said or ())


def _refuse_nothing(data: Mapping[str, Any], root: Path) -> None:
    if not data["layers"]:
        raise Refused(
            f"Nothing that ebbtide could roll back was found in {root}; nothing was written.",
            remedy="Say where it is: --mlflow URI with --model NAME, --features OUT, "
            "--table PATH=ROLE, --config PATH. --root DIR looks elsewhere.",
        )


def _write(path: Path, data: Mapping[str, Any], asker: Asker, force: bool) -> None:
    from ebbtide.entrypoints.cli import shown
    from ebbtide.entrypoints.cli.init import file as init_file
    from ebbtide.entrypoints.cli.init.text import render

    if not asker.sure(f"Write {path}?"):
        raise Refused("Not confirmed; nothing was written.")
    backup = init_file.put_in_place(path, render(data), force=force)
    shown.out.print(f"Wrote {path}", soft_wrap=True)
    if backup:
        shown.out.print(f"The former file is {backup}", soft_wrap=True)


def _root(root: Path) -> Path:
    found = root.resolve()
    if not found.is_dir():
        raise Refused(f"{root} is no folder.", remedy="Say where to look: --root DIR.")
    return found


def _named(name: str, root: Path, output: Path | None, asker: Asker) -> tuple[str, Path]:
    """The system's name and its file. A system file is named for its system."""
    if output is not None and output.suffix != ".yaml":
        raise BadConfiguration(f"{output} must be a .yaml file.", remedy="--output DIR/NAME.yaml")
    usual = output.stem if output else slug(root.name)
    name = name or (usual if output else asker.one("Name of the system", usual, ""))
    if slug(name) != name:
        raise BadConfiguration(
            f"`{name}` is no name of a system.",
            remedy=f"Lower case, digits and hyphens, such as `{slug(name)}`.",
        )
    folder = os.environ.get("EBBTIDE_SYSTEMS") or root / opt.DEFAULT_SYSTEMS
    path = Path(os.path.abspath(output or Path(folder) / f"{name}.yaml"))  # noqa: PTH100 - no link
    if path.stem != name:
        raise BadConfiguration(
            f"{path.name} cannot describe `{name}`.", remedy=f"Name it {name}.yaml."
        )
    return name, path


def _looked(
    root: Path, systems: Path, mlflow: str, redis: str, look: list[str], asker: Asker
) -> "Discovery":
    """All that can be found; where MLflow is, is asked if it cannot be seen."""
    from dataclasses import replace

    from ebbtide.adapters.discovery.places import discover
    from ebbtide.adapters.discovery.stores import registry
    from ebbtide.entrypoints.cli import shown

    registry_uri = os.environ.get("MLFLOW_REGISTRY_URI", "")
    with shown.out.status("Looking..."):
        found = discover(
            root,
            systems,
            mlflow=_source(mlflow, "MLFLOW_TRACKING_URI", "--mlflow"),
            registry_uri=registry_uri,
            find_registry=mlflow != NONE,
            redis=_source(redis, "REDIS_URL", "--redis"),
            below=look,
        )
    if found.registry is None and mlflow != NONE:
        uri = asker.one("MLflow's tracking URI", NONE, "")
        if uri != NONE:
            return replace(found, registry=registry(uri, "answer", root, registry_uri))
    return found


def _source(flag: str, variable: str, option: str) -> "Source | None":
    """A URL from a flag or a variable.

    A password that only the environment knows stays there: the file goes into git.
    """
    from ebbtide.adapters.discovery.places import Source
    from ebbtide.adapters.discovery.stores import without_password
    from ebbtide.entrypoints.cli import shown

    if flag == NONE:
        return None
    if flag:
        return Source(flag, option)
    url = os.environ.get(variable, "")
    bare = without_password(url)
    if bare == url:
        return Source(url, variable) if url else None
    if bare.startswith("http"):
        shown.out.print(
            f"The password in {variable} is not written: MLflow "
            "reads MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
        return Source(bare, variable)
    shown.out.print(f"{variable} has a password, so it is left out; {option} would write it.")
    return None
