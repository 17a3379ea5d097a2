"""What `ebbtide init` shows: what it found and where, what it will write, what comes next."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ebbtide.entrypoints.cli import shown
from ebbtide.entrypoints.cli.init import making

if TYPE_CHECKING:
    from ebbtide.adapters.discovery.places import Discovery
    from ebbtide.adapters.discovery.stores import Registry

Row = tuple[str, str, str]
_MOST = 12
"""Rows of one kind that are shown."""


def discovery(found: "Discovery") -> None:
    """Every kind that was looked for: what is there, or how to say where it is."""
    shown.out.print(f"Looked in {found.root}", soft_wrap=True, markup=False)
    drawn = shown.table("", "looked for", "found", "", free=("",))
    for kind, rows, missing in _kinds(found):
        for number, (what, where) in enumerate(rows[:_MOST]):
            drawn.add_row(kind if number == 0 else "", Text(what), Text(where, style="dim"))
        if len(rows) > _MOST:
            drawn.add_row("", f"and {len(rows) - _MOST} more", "")
        if not rows:
            drawn.add_row(kind, Text("nothing", style="yellow"), Text(missing, style="dim"))
    shown.show(drawn)
    for trouble in found.troubles[:_MOST]:
        shown.out.print(Text(f"not seen: {trouble.place}: {trouble.why}", style="yellow"))
    if len(found.troubles) > _MOST:
        shown.out.print(f"and {len(found.troubles) - _MOST} more that could not be seen")


def _kinds(found: "Discovery") -> Iterator[tuple[str, Sequence[tuple[str, str]], str]]:
    registry = found.registry
    git = [(str((found.root / found.git).resolve()), "repository")] if found.git else []
    yield "git", git, "no repository around this folder: run `git init`, or --root DIR"
    yield "MLflow", _registry(registry), "no MLFLOW_TRACKING_URI, no mlflow.db here: --mlflow URI"
    models = [(each.name, _aliases(each.aliases)) for each in registry.models] if registry else []
    yield "models", models, "none registered there: --model NAME"
    prompts = [(each.name, "") for each in registry.prompts] if registry else []
    yield "prompts", prompts, "none registered there: --prompt NAME"
    outs = [
        (
            str(Path(out.repository) / out.path),
            f"stage {out.stage}, "
            + (
                f"{out.parquet} Parquet files"
                if out.parquet
                else "folder"
                if out.is_folder
                else "file"
            ),
        )
        for out in found.outs
    ]
    yield "DVC outputs", outs, "no dvc.yaml with outputs: --features OUT"
    tables = [
        (
            table.path,
            f"Delta version {table.version}, {table.columns} columns"
            + (", served predictions" if table.is_log else "")
            + (", written through ebbtide.outputs" if table.is_output else "")
            + (", named by the serving code" if found.is_read_live(table) else ""),
        )
        for table in found.tables
    ]
    yield "tables", tables, "no folder with _delta_log: --look PLACE, --table PATH=ROLE"
    config = [(str(Path(each.repository) / each.path), each.standing) for each in found.config]
    yield "configuration", config, "no folder such as config or conf in git: --config PATH"
    serving = [
        (str(Path(each.repository) / each.path / each.handler), each.standing)
        for each in found.serving
    ]
    yield "serving code", serving, "no serving/handler.py with `load`: --serving PATH[/HANDLER]"
    golden = [(each.questions, f"smoke: {each.smoke or 'none'}") for each in found.golden]
    yield "golden set", golden, "no golden/*.jsonl: --golden FILE"
    yield "cache", _cache(found), "no REDIS_URL, so on this host's disk: --redis URL"


def _registry(registry: "Registry | None") -> list[tuple[str, str]]:
    if registry is None:
        return []
    return [(registry.tracking_uri, registry.problem or f"answers; by {registry.origin}")]


def _aliases(names: Sequence[str]) -> str:
    return f"aliases: {', '.join(names)}" if names else "no alias yet"


def _cache(found: "Discovery") -> list[tuple[str, str]]:
    from ebbtide.adapters.discovery.stores import without_password

    cache = found.cache
    if cache is None:
        return []
    standing = "answers" if cache.answers else "does not answer now"
    return [(without_password(cache.url), f"{standing}; by {cache.origin}")]


def chosen(data: Mapping[str, Any]) -> None:
    """The layers of the system that will be written."""
    drawn = shown.table("", "layer", f"in {data['system']}", "is", free=("is",))
    for layer, things in data["layers"].items():
        for number, (name, keys) in enumerate(things.items()):
            told = ", ".join(f"{key} {value}" for key, value in keys.items() if value != ".")
            drawn.add_row(layer if number == 0 else "", Text(name), Text(told))
    shown.show(drawn)


def hints(data: Mapping[str, Any], found: "Discovery") -> None:
    """What a person should know, or do, before the first release."""
    for line in _hints(data, found):
        shown.out.print(Text(f"- {line}"), soft_wrap=True)


def _hints(data: Mapping[str, Any], found: "Discovery") -> Iterator[str]:
    from ebbtide.adapters.discovery.repository import is_ignored

    layers = data["layers"]
    if "golden" not in data:
        yield (
            "No golden set: nothing will compare a release's answers with those it gave when it "
            "was recorded. Write some typical requests as JSON Lines (one row, as a client sends "
            "it, on each line), then name the file in `golden.questions`."
        )
    if "model" not in layers:
        yield (
            "No model is in the system: once one is registered, add it below `layers.model`, or "
            "run this again with --force."
        )
    elif len(layers["model"]) != 1 and "handler" not in data.get("serving", {}):
        yield (
            "The gateway cannot know which model answers: write a handler with `load(parts)` in a "
            "folder of its own, and name it in `serving.handler`; or serve yourself: `replicas: 0`."
        )
    yield from making.hints(layers)
    things = {name for kind in ("model", "prompt") for name in layers.get(kind, {})}
    if things and found.registry and found.registry.problem:
        yield "MLflow did not answer: names in it could not be checked."
    pending = [each for each in (*found.config, *found.serving) if each.standing != "committed"]
    for each in pending:
        yield f"{Path(each.repository) / each.path} {each.standing}: commit before a release."
    roots = sorted({_top(keys["link"]) for kind in layers.values() for keys in kind.values()
                    if "link" in keys} | {".ebbtide"})  # fmt: skip
    bare = [name for name in roots if found.git and not is_ignored(found.root / name / "x")]
    if bare:
        yield f"Add to .gitignore: {' '.join(f'{name}/' for name in bare)}"


def _top(link: str) -> str:
    return link.partition("/")[0]


def next_steps(name: str, written: Path, port: int) -> None:
    """The commands that come next, as they can be pasted."""
    folder = written.parent
    usual = folder.resolve() == (Path.cwd() / "configs/systems").resolve()
    where = "" if usual else f" --systems {folder}"
    steps = shown.table("", "next", "", free=("",))
    for command, why in (
        (f"ebbtide release {name}{where}", "pin every layer as it is now, with its answers"),
        (f"ebbtide serve {name}{where}", f"a replica that follows the route, on port {port}"),
        (f"ebbtide promote {name} RELEASE{where}", "make it live, proved or taken back"),
        (f"ebbtide doctor {name}{where}", "would a rollback work now, and how long would it take"),
    ):
        steps.add_row(Text(command, style="bold"), Text(why, style="dim"))
    shown.show(steps)
