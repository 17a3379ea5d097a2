"""What one stage of a commit's pipeline makes its outputs of, known without running it.

Two runs with the same ingredients are the same run as far as DVC can tell: the
command, the parameters, the code that the stage declares and its data. Features
count by their content; other data that a stage makes by its ingredients in turn.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ebbtide.adapters.dvc.definition import value_of
from ebbtide.adapters.dvc.lock import opened
from ebbtide.adapters.dvc.parameters import Params
from ebbtide.adapters.git.repository import GitError, Repository
from ebbtide.core.digests import digest
from ebbtide.core.errors import BadConfiguration


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the data that a stage reads, beside the commit."""

    features: Mapping[str, str]
    """Content digests of features, by their folder relative to the repository."""
    params: Params = field(default_factory=dict)
    """What stands for the commit's own values, such as a fingerprint for a table's version."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage at a commit."""

    ingredients: str
    """Digest of everything that it makes its outputs of."""
    needs: tuple[str, ...]
    """The stages that make what it reads, addressed as for `dvc repro`."""
    features: Mapping[str, str]
    """Which of the known features it reads, by their folder: DVC's hash of each, as this
    commit's dvc.lock has it."""
    stale: tuple[str, ...]
    """What changed after dvc.lock was written; nothing: it tells of this very stage."""


def read_stage(repository: Repository, commit: str, name: str, known: Known) -> Stage:
    """A stage of a commit's pipeline, addressed as for `dvc repro`.

    Raises `BadConfiguration` where the commit has no such stage, `Unknown` where it has no
    pipeline, `Refused` where that cannot be read.
    """
    with opened(repository, commit) as (repo, root):
        return _Reader(repository, commit, root, repo, known).read(name)


class _Reader:
    """One commit's pipeline, as DVC reads it from git."""

    def __init__(
        self, repository: Repository, commit: str, root: str, repo: Any, known: Known
    ) -> None:
        self._repository, self._commit, self._root = repository, commit, root
        self._repo, self._known = repo, known
        self._features: dict[str, str] = {}
        self._stale: list[str] = []
        self._made: dict[str, str] = {}

    def read(self, name: str) -> Stage:
        stage = self._find(name)
        ingredients = self._ingredients(stage)
        makers = [owner for dep in stage.deps for owner, _ in self._makers(dep)]
        needs = {self._address(owner) for owner in makers if _is_run(owner)}
        stale = tuple(sorted(set(self._stale)))
        return Stage(ingredients, tuple(sorted(needs)), dict(self._features), stale)

    def _find(self, name: str) -> Any:
        wanted = name if ":" in name else f"dvc.yaml:{name}"
        stages = {self._address(each, full=True): each for each in self._repo.index.stages}
        if wanted not in stages:
            known = ", ".join(
                sorted(self._address(each) for each in stages.values() if _is_run(each))
            )
            raise BadConfiguration(
                f"Commit {self._commit[:10]} of {self._repository.folder} has no stage `{name}`.",
                remedy=f"It has {known or 'none'}: correct `train.stage` in the system file.",
            )
        return stages[wanted]

    def _ingredients(self, stage: Any) -> str:
        """Digest of all that makes the stage's outputs; notes what dvc.lock is too old for."""
        address = self._address(stage)
        if address not in self._made:
            plain = [dep for dep in stage.deps if dep not in stage.params]
            data = {self._path(dep): self._data(dep) for dep in plain if self._makers(dep)}
            code = {self._path(dep): self._code(dep) for dep in plain if not self._makers(dep)}
            params = {self._path(dep): self._params(dep) for dep in stage.params}
            if stage.cmd_changed:
                self._stale.append(f"the command of `{stage.name}`")
            self._made[address] = digest(
                {"cmd": stage.cmd, "params": params, "code": code, "data": data}
                | self._filled_in(stage)
            )
        return self._made[address]

    def _data(self, dep: Any) -> dict[str, Any]:
        found = {}
        for owner, out in self._makers(dep):
            path = self._path(out)
            if not _agrees(dep, out):
                self._stale.append(path)
            if path in self._known.features:
                self._features[path] = str(out.hash_info.value or "")
                found[path] = {"features": self._known.features[path]}
            elif _is_run(owner):
                found[path] = {"made": self._ingredients(owner)}
            else:
                found[path] = {"hash": str(out.hash_info.value or "")}
        return found

    def _code(self, dep: Any) -> dict[str, str]:
        """By git's own name for its content; what git does not have, by DVC's hash of it."""
        try:
            spec = f"{self._commit}:./{self._path(dep)}"
            said = self._repository.run("rev-parse", "--verify", "--end-of-options", spec)
        except GitError:
            return {"hash": str(dep.hash_info.value or "")}
        if dep.workspace_status():
            self._stale.append(self._path(dep))
        return {"git": said.decode("ascii").strip()}

    def _params(self, dep: Any) -> dict[str, Any]:
        from dvc.utils.serialize import load_path

        if dep.workspace_status():
            self._stale.append(self._path(dep))
        config = load_path(dep.fs_path, dep.repo.fs) if dep.exists else {}
        for key, value in self._known.params.get(self._path(dep), {}).items():
            _put(config, key, value)
        keys = list(dep.params) or list(config)
        return {key: _plain(_value(config, key)) for key in keys}

    def _filled_in(self, stage: Any) -> dict[str, Any]:
        """What may stand in a templated stage in place of the commit's own values."""
        if not stage.tracked_vars or not self._known.params:
            return {}
        return {"vars": _plain(self._known.params)}

    def _makers(self, dep: Any) -> list[tuple[Any, Any]]:
        """The outputs that a dependency is, is inside of, or holds, each with its stage."""
        if dep.fs.protocol != "local":
            return []
        fs, path = self._repo.fs, dep.fs_path
        return [
            (stage, out)
            for stage in self._repo.index.stages
            for out in stage.outs
            if out.fs.protocol == "local"
            and (fs.isin_or_eq(path, out.fs_path) or fs.isin(out.fs_path, path))
        ]

    def _path(self, thing: Any) -> str:
        """Relative to the repository's folder; what lies elsewhere keeps its address."""
        if thing.fs.protocol != "local":
            return str(thing)
        return posixpath.relpath(thing.fs_path, self._root)

    def _address(self, stage: Any, *, full: bool = False) -> str:
        file = posixpath.relpath(stage.path_in_repo.rpartition(":")[0] or stage.path_in_repo, ".")
        name = getattr(stage, "name", "")
        if not name:
            return file
        return name if file == "dvc.yaml" and not full else f"{file}:{name}"


def _is_run(stage: Any) -> bool:
    from dvc.stage import PipelineStage

    return isinstance(stage, PipelineStage)


def _agrees(dep: Any, out: Any) -> bool:
    """Whether dvc.lock read what the output's own stage last wrote."""
    if dep.fs_path == out.fs_path:
        return bool(dep.hash_info and dep.hash_info == out.hash_info)
    if not out.fs.isin(dep.fs_path, out.fs_path):
        return False  # a folder around several outputs: DVC's hash of it tells nothing of one
    tree = out.get_obj()
    entry = tree.get(out.fs.relparts(dep.fs_path, out.fs_path)) if tree is not None else None
    return bool(entry and dep.hash_info and entry[1] == dep.hash_info)


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value


def _value(config: Any, key: str) -> Any:
    try:
        return value_of(config, key)
    except KeyError:
        return None


def _plain(value: Any) -> Any:
    """A value of a params file as canonical JSON can hold it: dates and NaN become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | str) else repr(value)
