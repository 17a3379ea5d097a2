"""What git and DVC have of a system: outs of pipelines, configuration, serving code, questions.

Reads files and git's own command line; no pipeline is loaded, nothing is run.
"""

import json
import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ebbtide.adapters.discovery.tree import Limits, Tree, Trouble, look
from ebbtide.adapters.git.repository import Repository
from ebbtide.core.errors import EbbtideError, Unknown

_LARGEST = 1024 * 1024
"""Bytes of a file that is read."""
_GIT_SECONDS = 10.0
_CONFIG_FOLDERS = frozenset({"config", "configs", "conf", "cfg", "settings", "configuration"})
_CONFIG_FILES = frozenset(
    {".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".properties"}
)
_SERVING_FOLDERS = frozenset({"serving", "serve", "inference"})
_HANDLERS = frozenset({"handler.py", "serve.py", "serving.py", "inference.py"})
_NEW = "not committed yet"
_LOAD = re.compile(r"^(def load\s*\(|load\s*[:=])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Out:
    """An output of a DVC pipeline."""

    repository: str
    """Relative to the root that was looked at."""
    path: str
    """Relative to the repository."""
    stage: str
    is_folder: bool
    """For one that was never made: as its name looks."""
    parquet: int
    """Parquet files below it on this disk."""


@dataclass(frozen=True, slots=True)
class Versioned:
    """A folder inside a git repository."""

    repository: str
    """Relative to the root that was looked at."""
    path: str
    """Relative to the repository."""
    standing: str
    """`committed`, or why the folder cannot be pinned as it is."""
    handler: str = ""
    """The file with `load(parts)` that answers requests, relative to the folder."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Files of rows as a client sends them, relative to the root."""

    questions: str
    smoke: str = ""


def relative(path: Path, root: Path) -> str:
    """A path as the system file has it: relative to the root, also upwards."""
    return Path(os.path.relpath(path, root)).as_posix()


def git_top(folder: Path) -> Path | None:
    """The repository that a folder lies in. Raises `Unreachable` where git cannot say."""
    place = folder.resolve()
    here = next(path for path in (place, *place.parents) if path.is_dir())
    if not any((path / ".git").exists() for path in (here, *here.parents)):
        return None
    said = Repository(here).run("rev-parse", "--show-toplevel")
    return Path(os.fsdecode(said).strip("\n"))


def versioned(folder: Path, root: Path, handler: str = "") -> Versioned | None:
    """A folder as git has it; None where it is in no repository. Raises `Unreachable`."""
    top = git_top(folder)
    if top is None:
        return None
    repository, path = Repository(top), relative(folder, top)
    try:
        tracked = bool(repository.entries(repository.head(), path))
        standing = "has uncommitted changes" if repository.changed(path) else "committed"
    except Unknown:
        tracked, standing = False, ""
    standing = standing if tracked else _NEW
    return Versioned(relative(top, root), path, standing, handler)


def is_ignored(path: Path) -> bool:
    """Whether git is told to leave a path alone, there or not. Where git cannot say: no."""
    try:
        top = git_top(path)
        if top is None:
            return False
        # Not through `Repository`: its literal pathspecs are refused by this one command.
        command = ["git", "-C", str(top), "check-ignore", "--quiet", "--", relative(path, top)]
        ended = subprocess.run(command, capture_output=True, timeout=_GIT_SECONDS, check=False)
    except (EbbtideError, OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def outs(tree: Tree) -> tuple[list[Out], list[Trouble]]:
    """The outputs of every dvc.yaml below, features first: folders with Parquet files."""
    found: list[Out] = []
    troubles: list[Trouble] = []
    for file in (path for path in tree.files() if path.name == "dvc.yaml"):
        try:
            found += _outs_of(file, tree.root)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as fault:
            why = (str(fault).splitlines() or ["it is empty"])[0]
            troubles.append(Trouble(str(file), f"cannot be read: {why}"))
    order = {id(out): (-_likely_features(out), n) for n, out in enumerate(found)}
    return sorted(found, key=lambda out: order[id(out)]), troubles


def likely_features(found: Collection[Out]) -> list[Out]:
    """The outputs that are most likely the features: one, several alike, or none."""
    folders = [out for out in found if out.is_folder]
    best = max(map(_likely_features, folders), default=0)
    return [out for out in folders if _likely_features(out) == best]


def _likely_features(out: Out) -> int:
    named = "feature" in out.path.lower() or "feature" in out.stage.lower()
    return 4 * out.is_folder + 2 * bool(out.parquet) + named


def _outs_of(file: Path, root: Path) -> Iterator[Out]:
    """A lock knows more than the pipeline: resolved names, and which outs are folders."""
    home = next((path for path in (file.parent, *file.parents) if (path / ".dvc").is_dir()), None)
    if home is None:
        raise ValueError("no DVC repository around it: run `dvc init`")
    stages = read_stages(file)
    lock = file.with_name("dvc.lock")
    made = read_stages(lock) if lock.is_file() else {}
    seen: set[Path] = set()
    for source in (made, stages):
        for name, stage in source.items():
            written = stages.get(name.partition("@")[0], {})
            base = file.parent / str(written.get("wdir", "."))
            for path, md5 in declared(stage.get("outs")):
                place = Path(os.path.normpath(base / path))
                if "${" in str(place) or place in seen or not place.is_relative_to(home):
                    continue
                seen.add(place)
                yield Out(
                    relative(home, root),
                    place.relative_to(home).as_posix(),
                    name,
                    _is_folder(place, md5),
                    _parquet(place),
                )


def read_stages(file: Path) -> dict[str, Mapping[str, Any]]:
    """The stages of a dvc.yaml or a dvc.lock. Raises what reading it raises."""
    read = yaml.safe_load(_text(file)) or {}
    stages = read.get("stages") if isinstance(read, dict) else None
    if not isinstance(stages, dict):
        return {}
    plain: dict[str, Mapping[str, Any]] = {}
    for name, stage in stages.items():
        if isinstance(stage, dict):
            inner = stage.get("do")  # of `foreach` and `matrix`
            plain[str(name)] = inner if isinstance(inner, dict) else stage
    return plain


def declared(listed: Any) -> Iterator[tuple[str, str]]:
    """Path and md5 of outs, in a lock's form or a pipeline's: text, or a mapping of options.

    Deps are written alike.
    """
    for out in listed if isinstance(listed, list) else ():
        if isinstance(out, dict) and "path" in out:
            yield str(out["path"]), str(out.get("md5", ""))
        elif isinstance(out, dict):
            yield from ((str(path), "") for path in out)
        else:
            yield str(out), ""


def _is_folder(place: Path, md5: str) -> bool:
    if md5 or place.exists():
        return md5.endswith(".dir") or place.is_dir()
    return not place.suffix


def _parquet(place: Path) -> int:
    below = look(place, Limits(depth=4, entries=5_000, seconds=2)) if place.is_dir() else None
    return sum(path.suffix == ".parquet" for path in below.files()) if below else 0


def configuration(tree: Tree, output: Path) -> tuple[list[Versioned], list[Trouble]]:
    """Folders of configuration, by name; not the one with the system files.

    A system file that rolled back with its own system would be no description of it.
    """
    named = [
        path
        for path, folder in tree.folders.items()
        if path.name.lower() in _CONFIG_FOLDERS
        and 0 < tree.depth(path) <= 2
        and not output.is_relative_to(path)
        and any(Path(name).suffix in _CONFIG_FILES for name in folder.files)
    ]
    return _in_git(_outermost(named), tree.root)


def serving(tree: Tree) -> tuple[list[Versioned], list[Trouble]]:
    """Folders of serving code; first those with a file that defines `load`, as the gateway asks."""
    folders: dict[Path, str] = {}
    for path, folder in tree.folders.items():
        named = path.name.lower() in _SERVING_FOLDERS
        if not 0 < tree.depth(path) <= 3 or {"test", "tests"} & set(path.parts):
            continue
        code = [name for name in folder.files if name.endswith(".py")]
        able = [
            name
            for name in code
            if (named or name in _HANDLERS) and _LOAD.search(text_or_none(path / name))
        ]
        if able or (named and code):
            folders[path] = next((name for name in able if name == "handler.py"), (*able, "")[0])
    outer = {path: folders[path] for path in _outermost(folders)}
    found, troubles = _in_git(outer, tree.root, outer)
    return sorted(found, key=lambda each: not each.handler), troubles


def questions(tree: Tree) -> list[Questions]:
    """Golden sets: JSON Lines files with `golden` in their path, and the smoke rows beside."""
    named = [path for path in tree.files() if path.suffix == ".jsonl" and _is_golden(path, tree)]
    asked = [path for path in named if "smoke" not in path.stem and _has_rows(path)]
    found = []
    for path in asked:
        beside = [other for other in named if other.parent == path.parent and other not in asked]
        smoke = next((relative(other, tree.root) for other in beside if _has_rows(other)), "")
        found.append(Questions(relative(path, tree.root), smoke))
    return found


def read_in(folder: Path, names: Collection[str]) -> set[str]:
    """Which tables the code below a folder takes from its parts, as `tables["name"]`.

    A name that merely stands in quotes may be a column: taken for a reference
    table, its honest appends would be reverted by a rollback.
    """
    code = [path for path in look(folder, Limits(4, 2_000, 2)).files() if path.suffix == ".py"]
    text = "\n".join(text_or_none(path) for path in code[:200])
    return {name for name in names if f'tables["{name}"]' in text or f"tables['{name}']" in text}


def _in_git(
    folders: Collection[Path], root: Path, handlers: Mapping[Path, str] | None = None
) -> tuple[list[Versioned], list[Trouble]]:
    found, troubles = [], []
    for folder in folders:
        try:
            each = versioned(folder, root, (handlers or {}).get(folder, ""))
        except EbbtideError as fault:
            troubles.append(Trouble(str(folder), fault.message))
            continue
        if each is None:
            troubles.append(Trouble(str(folder), "in no git repository, so it has no versions"))
        elif each.standing != _NEW or not is_ignored(folder):
            found.append(each)
    return found, troubles


def _outermost(folders: Collection[Path]) -> list[Path]:
    return [path for path in folders if not any(up in folders for up in path.parents)]


def _is_golden(path: Path, tree: Tree) -> bool:
    return any("golden" in part.lower() for part in path.relative_to(tree.root).parts)


def _has_rows(path: Path) -> bool:
    """Whether the first line is a row: an object of JSON."""
    try:
        with path.open(encoding="utf-8") as file:
            return isinstance(json.loads(file.readline(_LARGEST)), dict)
    except (OSError, ValueError):
        return False


def _text(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"larger than {_LARGEST // 1024} KiB")
    return path.read_text(encoding="utf-8")


def text_or_none(path: Path) -> str:
    """A text file's content; nothing where it is too large, or cannot be read."""
    try:
        return _text(path)
    except (OSError, ValueError):
        return ""
