"""What the stages of DVC pipelines read and write: how ebbtide can run them anew.

Reads files only; nothing is run. What cannot be read is left out: the outputs of
the same files are looked for elsewhere, and that tells the trouble.
"""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ebbtide.adapters.discovery.repository import declared, read_stages, relative, text_or_none
from ebbtide.adapters.discovery.tree import Tree

_VARIABLE = re.compile(
    r"""os\.(?:environ(?:\.get\(|\[)|getenv\()\s*["'](\w+)["'](?:\s*,\s*["']([^"']*)["'])?"""
)
"""How Python code asks for an environment variable: its name, and its default in quotes."""


@dataclass(frozen=True, slots=True)
class StageSeen:
    """One stage, with paths relative to its repository."""

    repository: str
    """Relative to the root that was looked at."""
    name: str
    """As `dvc repro` takes it."""
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    versions: Mapping[str, int]
    """The whole numbers among its parameters, by `FILE:KEY`: a table's version is one."""
    results: Mapping[str, tuple[str, ...]]
    """Its JSON outputs that tell a `version`, each with the names of the other figures there."""
    variables: Mapping[str, Path]
    """Environment variables that its code reads a folder from, with the folder that they name."""


def stages(tree: Tree) -> list[StageSeen]:
    """Every stage of every dvc.yaml below that lies in a DVC repository."""
    return [
        stage
        for file in tree.files()
        if file.name == "dvc.yaml"
        for stage in _stages_of(file, tree.root)
    ]


def _stages_of(file: Path, root: Path) -> Iterator[StageSeen]:
    home = next((path for path in (file.parent, *file.parents) if (path / ".dvc").is_dir()), None)
    try:
        read = read_stages(file) if home else {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return
    for name, stage in read.items():
        assert home is not None
        base = Path(os.path.normpath(file.parent / str(stage.get("wdir", "."))))
        deps = _places(base, home, stage.get("deps"))
        outs = [*_places(base, home, stage.get("outs")), *_places(base, home, stage.get("metrics"))]
        inner = relative(file, home)
        yield StageSeen(
            relative(home, root),
            name if inner == "dvc.yaml" else f"{inner}:{name}",
            tuple(relative(place, home) for place in deps),
            tuple(relative(place, home) for place in outs),
            dict(_versions(base, home, stage.get("params"))),
            dict(_results(home, outs)),
            dict(_variables(base, deps)),
        )


def _places(base: Path, home: Path, listed: Any) -> list[Path]:
    found = [Path(os.path.normpath(base / path)) for path, _ in declared(listed)]
    return [place for place in found if "${" not in str(place) and place.is_relative_to(home)]


def _versions(base: Path, home: Path, params: Any) -> Iterator[tuple[str, int]]:
    for entry in params if isinstance(params, list) else ():
        asked = entry if isinstance(entry, dict) else {"params.yaml": [entry]}
        for name, keys in asked.items():
            file = Path(os.path.normpath(base / str(name)))
            for key, value in _leaves(_plain(file)):
                wanted = [str(each) for each in keys] if isinstance(keys, list) else [key]
                if any(key == each or key.startswith(f"{each}.") for each in wanted):
                    yield f"{relative(file, home)}:{key}", value


def _leaves(value: Any, above: str = "") -> Iterator[tuple[str, int]]:
    """Whole numbers by their dotted keys."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        dotted = f"{above}.{key}" if above else str(key)
        if isinstance(inner, int) and not isinstance(inner, bool):
            yield dotted, inner
        else:
            yield from _leaves(inner, dotted)


def _plain(file: Path) -> Any:
    """A YAML or JSON file of parameters; nothing where it is none, or cannot be read."""
    try:
        return yaml.safe_load(text_or_none(file)) if file.suffix != ".toml" else None
    except (yaml.YAMLError, RecursionError):
        return None


def _results(home: Path, outs: Collection[Path]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for place in outs:
        try:
            says = json.loads(text_or_none(place)) if place.suffix == ".json" else None
        except (ValueError, RecursionError):
            continue
        if isinstance(says, dict) and "version" in says:
            figures = [name for name, value in says.items() if type(value) is float]
            yield relative(place, home), tuple(figures)


def _variables(base: Path, deps: Collection[Path]) -> Iterator[tuple[str, Path]]:
    """As they are set here, else as the code's default has them."""
    for place in deps:
        code = text_or_none(place) if place.suffix == ".py" else ""
        for name, default in _VARIABLE.findall(code):
            value = os.environ.get(name, default)
            folder = Path(os.path.normpath(base / value)) if value else None
            if folder and folder.is_dir():
                yield name, folder
