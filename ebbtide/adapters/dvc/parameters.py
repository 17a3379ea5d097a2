"""The parameter files of a checkout: told other values, and asked what a run has used."""

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebbtide.adapters.dvc.definition import value_of
from ebbtide.core.errors import BadConfiguration, Refused

Params = Mapping[str, Mapping[str, Any]]
"""Values by params file, relative to the repository's folder, then by dotted key."""


def set_parameters(folder: Path, params: Params, commit: str) -> None:
    """Write values into the params files below a folder, where they differ.

    Raises `BadConfiguration` where a file or a key is not there: a pipeline that
    does not know the key would run without the value.
    """
    from dvc.utils.serialize import MODIFIERS, ParseError

    for name, values in params.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise Refused(f"The parameters `{name}` lead out of the repository.")
        if not file.is_file():
            raise BadConfiguration(f"There is no `{name}` at commit {commit[:10]}.")
        try:
            if all(value_of(_load(file), key) == value for key, value in values.items()):
                continue
            with MODIFIERS[file.suffix.lower()](str(file)) as content:
                for key, value in values.items():
                    _set(content, key, value)
        except ParseError as fault:
            raise BadConfiguration(f"`{name}` at commit {commit[:10]}: {fault}") from fault
        except KeyError as fault:
            raise BadConfiguration(
                f"`{name}` at commit {commit[:10]} has no key {fault}.",
                remedy="Correct the system file, or choose a commit whose pipeline has it.",
            ) from fault


def recorded_otherwise(
    folder: Path, locks: Mapping[str, Sequence[str]], params: Params
) -> list[str]:
    """Stages whose dvc.lock records other values than these, in words.

    `locks`: stage names by the dvc.lock that has them, relative to the folder.
    """
    faults = []
    for lock, names in locks.items():
        entries = _load(folder / lock).get("stages", {})
        for name in names:
            used = entries.get(name, {}).get("params", {})
            faults += [
                f"stage `{name}` used {file}:{key}={found!r}, not {value!r}"
                for file, values in params.items()
                for found_file, found_values in used.items()
                if posixpath.normpath(posixpath.join(posixpath.dirname(lock), found_file)) == file
                for key, value in values.items()
                for found in _found(found_values, key)
                if found != value
            ]
    return faults


def _load(file: Path) -> Any:
    from dvc.fs import localfs
    from dvc.utils.serialize import load_path

    return load_path(str(file), localfs)


def _found(values: Any, key: str) -> list[Any]:
    try:
        return [value_of(values, key)]
    except KeyError:
        return []


def _set(content: Any, key: str, value: Any) -> None:
    if key in content:
        content[key] = value
        return
    for name in content:
        if key.startswith(f"{name}.") and isinstance(content[name], dict):
            _set(content[name], key.removeprefix(f"{name}."), value)
            return
    raise KeyError(key)
