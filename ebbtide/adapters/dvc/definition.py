"""What of a pipeline makes features of their data: its commands, its code and its parameters."""

import posixpath
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from ebbtide.core.digests import digest
from ebbtide.core.errors import BadConfiguration

Apart = Mapping[str, Collection[str]]
"""Parameters that say of which data, not how: dotted keys by params file."""
NOTHING: Apart = MappingProxyType({})


def definition(code: Mapping[Any, list[Any]], apart: Apart) -> str:
    """Digest of how stages make their outputs of their data; `apart` by the absolute file."""
    return digest(sorted(digest(_of_stage(stage, deps, apart)) for stage, deps in code.items()))


def _of_stage(stage: Any, code: list[Any], apart: Apart) -> dict[str, Any]:
    params = {
        dep.fs_path: without(dep.get_hash().value, apart.get(dep.fs_path, ()))
        for dep in stage.params
    }
    files = {dep.fs_path: dep.get_hash().value for dep in code if dep not in stage.params}
    return {"cmd": _command(stage, apart), "params": params, "code": files}


def _command(stage: Any, apart: Apart) -> Any:
    """As it is run; as it is written where a parameter that is set apart is written into it."""
    written_in = {posixpath.join("/", path): keys for path, keys in stage.tracked_vars.items()}
    kept = {path: without(keys, apart.get(path, ())) for path, keys in written_in.items()}
    if kept == written_in:
        return stage.cmd
    written = stage.dvcfile.contents["stages"][stage.raw_data.generated_from or stage.name]
    return {"stage": stage.name, "cmd": written.get("do", written)["cmd"], "vars": kept}


def without(values: Any, keys: Collection[str]) -> Any:
    """Parameters, nested or by dotted keys, without some of them."""
    if not isinstance(values, Mapping) or not keys:
        return values
    kept = {}
    for name, value in values.items():
        below = {key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")}
        if not any(name == key or name.startswith(f"{key}.") for key in keys):
            kept[name] = without(value, below)
    return kept


def placed(apart: Apart, root: str) -> Apart:
    """By absolute file, for a repository whose folder is at `root` of a commit."""
    return {posixpath.normpath(posixpath.join(root, file)): keys for file, keys in apart.items()}


def value_of(values: Any, key: str) -> Any:
    """The value of a dotted key, also where a part of it is dotted. Raises KeyError."""
    if not isinstance(values, Mapping):
        raise KeyError(key)
    if key in values:
        return values[key]
    for name, below in values.items():
        if key.startswith(f"{name}."):
            return value_of(below, key.removeprefix(f"{name}."))
    raise KeyError(key)


def inputs_of(repo: Any, stages: list[Any]) -> str:
    """Digest of the data that stages read, DVC tracks and no stage makes."""
    from dvc.stage import PipelineStage

    given = [stage for stage in repo.index.stages if not isinstance(stage, PipelineStage)]
    outs = [out for stage in given for out in stage.outs]
    found = {
        f"{dep.fs_path} {out.fs_path}": out.hash_info.value
        for stage in stages
        for dep in stage.deps
        for out in outs
        if repo.fs.isin_or_eq(dep.fs_path, out.fs_path)
        or repo.fs.isin_or_eq(out.fs_path, dep.fs_path)
    }
    return digest(found)


def values_of(
    repo: Any, stages: list[Any], apart: Apart, root: str, commit: str
) -> dict[str, dict[str, Any]]:
    """The values of what is set apart, by params file and dotted key.

    Raises `BadConfiguration` where one is not there, or no stage depends on it: the
    pipeline would run without noticing its new value.
    """
    values: dict[str, dict[str, Any]] = {}
    for file, keys in placed(apart, root).items():
        name = posixpath.relpath(file, root)
        there = _read(repo, file, name, commit)
        for key in keys:
            values.setdefault(name, {})[key] = _value(there, key, name, commit)
            _refuse_unnoticed(stages, file, key, f"{name}:{key}", commit)
    return values


def _read(repo: Any, file: str, name: str, commit: str) -> Any:
    from dvc.utils.serialize import ParseError, load_path

    try:
        return load_path(file, repo.fs)
    except (OSError, ParseError) as fault:
        raise BadConfiguration(
            f"The parameters {name} cannot be read at commit {commit[:10]}: {fault}",
            remedy="Correct `tables` in the system file, or choose another commit.",
        ) from fault


def _value(there: Any, key: str, name: str, commit: str) -> Any:
    try:
        return value_of(there, key)
    except KeyError:
        raise BadConfiguration(
            f"{name} at commit {commit[:10]} has no `{key}`.",
            remedy="Correct `tables` in the system file, or choose another commit: "
            "that pipeline cannot be told which version of the table to read.",
        ) from None


def _refuse_unnoticed(stages: list[Any], file: str, key: str, shown: str, commit: str) -> None:
    for stage in stages:
        written_in = {posixpath.join("/", path): keys for path, keys in stage.tracked_vars.items()}
        keys = [*written_in.get(file, ())]
        for dep in stage.params:
            keys += (dep.params or [key]) if dep.fs_path == file else []
        if any(key == each or key.startswith(f"{each}.") for each in keys):
            return
    raise BadConfiguration(
        f"No stage depends on `{shown}` at commit {commit[:10]}.",
        remedy="Name it below `params` of the stage that reads it, or DVC will not run that stage.",
    )
