"""What a commit's dvc.yaml and dvc.lock say of one output: how it was made, of which objects.

Reads the commit through DVC's own library on git's object store, so that the
user's working tree, index and `.dvc/tmp` are not touched, nor need they be
writable. Nothing here runs a stage or asks a remote.
"""

import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ebbtide.adapters.dvc.definition import (
    NOTHING,
    Apart,
    definition,
    inputs_of,
    placed,
    values_of,
)
from ebbtide.adapters.git.repository import GitError, Repository
from ebbtide.core.digests import bytes_digest
from ebbtide.core.errors import EbbtideError, NotRestorable, Refused, Unknown, Unreachable


@dataclass(frozen=True, slots=True)
class Object:
    """One file of an output: where DVC's cache has it, and the hash it has by DVC."""

    path: Path
    hash: str
    hash_name: str

    def is_whole(self, file: Path) -> bool:
        """Whether a file has this object's content, by DVC's own hash."""
        from dvc_data.hashfile.hash import file_md5

        return bool(file_md5(str(file), name=self.hash_name) == self.hash)


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a pipeline as one commit has it."""

    md5: str
    """DVC's hash of the whole output, with `.dir` for a folder."""
    lock: str
    """sha256 of dvc.lock."""
    pipeline: str
    """Digest of the commands, parameters and code that made it; the data is left out."""
    inputs: str
    """Digest of the data that it was made of, as far as DVC tracks it and no stage makes it."""
    values: Mapping[str, Mapping[str, Any]]
    """Parameters that were set apart from the pipeline, by params file and dotted key."""
    sources: tuple[str, ...]
    """The pipeline's files, its parameters and its code, relative to the repository."""
    stages: Mapping[str, tuple[str, ...]]
    """The stages that made it, by the dvc.lock that has them, relative to the repository."""
    objects: Mapping[str, Object]
    """By path inside the output."""


def read_output(repository: Repository, commit: str, out: str, apart: Apart = NOTHING) -> Output:
    """The output at a commit. Reads no data but the list of its files.

    Parameters that are set `apart` count as data, not as part of the pipeline.
    Raises `Unknown` where the commit has no such output, `Refused` where it was
    not made by the pipeline of that commit, `NotRestorable` where the cache has
    no list of its files.
    """
    with opened(repository, commit) as (repo, root):
        stage, found = maker_of(repo, root, commit, out)
        stages = upstream(repo, stage)
        code = {each: [dep for dep in each.deps if is_code(repo, dep)] for each in stages}
        _refuse_stale(code, commit)
        if not found.hash_info:
            raise Refused(
                f"dvc.lock at commit {commit[:10]} has no hash of `{out}`.",
                remedy="Run `dvc repro`, commit dvc.lock, then try again.",
            )
        with repo.fs.open(_lock_of(repo, stage), "rb") as file:
            content = file.read()
        files = {_lock_of(repo, each) for each in stages} | {each.dvcfile.path for each in stages}
        files |= {dep.fs_path for deps in code.values() for dep in deps}
        return Output(
            md5=str(found.hash_info.value),
            lock=bytes_digest(content),
            pipeline=definition(code, placed(apart, root)),
            inputs=inputs_of(repo, stages),
            values=values_of(repo, stages, apart, root, commit),
            sources=tuple(sorted(posixpath.relpath(path, root) for path in files)),
            stages=_by_lock(repo, stages, root),
            objects=_objects(found, commit, out),
        )


def read_objects(repository: Repository, commit: str, out: str, md5: str) -> Mapping[str, Object]:
    """The files of an output that was made aside, and so is in no commit's dvc.lock.

    `md5`: DVC's hash of it. `commit`: any that has the pipeline. Raises `NotRestorable`.
    """
    from dvc_data.hashfile import load
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_objects.errors import ObjectFormatError

    with opened(repository, commit) as (repo, _):
        cache = repo.cache.repo
        try:
            found = load(cache, HashInfo(cache.hash_name, md5))
        except (FileNotFoundError, ObjectFormatError) as fault:
            raise missing(cache.oid_to_path(md5), out, commit) from fault
        return _listed(found, cache, out, commit)


def made_output(folder: Path, out: str) -> tuple[str, Mapping[str, Object]]:
    """DVC's hash and the files of an output that was just made in a checkout."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        wanted = posixpath.normpath(str(folder / out))
        found = next(each for each in repo.index.outs if each.fs_path == wanted)
        return str(found.hash_info.value), _objects(found, "", out)


def last_change(
    repository: Repository, commit: str, out: str, output: Output, apart: Apart = NOTHING
) -> tuple[str, Output]:
    """The commit up to `commit` that last changed what dvc.lock says of how an output was made.

    With the output as that commit has it: the same features by the same pipeline are
    the same commit, whatever else was committed since, also of other stages.
    """
    older = _same_entries(repository, commit, output)
    for candidate in dict.fromkeys((older, repository.last_change(commit, *output.sources))):
        if candidate in ("", commit):
            continue
        try:
            found = read_output(repository, candidate, out, apart)
        except EbbtideError:
            continue  # its code, say, was committed only later
        if (found.md5, found.pipeline) == (output.md5, output.pipeline):
            return candidate, found
    return commit, output


def _same_entries(repository: Repository, commit: str, output: Output) -> str:
    """The oldest commit in a row up to `commit` whose dvc.lock says the same of the stages."""
    now = _entries(repository, commit, output.stages)
    found = ""
    for candidate in repository.changes(commit, *output.stages):
        if _entries(repository, candidate, output.stages) != now:
            break
        found = candidate
    return found


def _entries(
    repository: Repository, commit: str, stages: Mapping[str, tuple[str, ...]]
) -> list[Any]:
    """What a commit's lock files say of some stages; None of one that is not there."""
    found = []
    for path, names in stages.items():
        try:
            entries = locked(repository, commit, path)["stages"]
            found += [entries.get(name) for name in names]
        except (GitError, ValueError, KeyError, TypeError, AttributeError):
            found.append(None)
    return found


def locked(repository: Repository, commit: str, path: str) -> Any:
    """What a commit's lock file holds. Raises `GitError`, or ValueError where it is no YAML."""
    import yaml

    content = repository.run("cat-file", "blob", f"{commit}:./{path}")
    # libyaml where it is: it takes a tenth of the time, and many commits are looked at.
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        return yaml.load(content, Loader=loader)  # noqa: S506 - both are safe
    except yaml.YAMLError as fault:
        raise ValueError(str(fault)) from fault


def _by_lock(repo: Any, stages: list[Any], root: str) -> dict[str, tuple[str, ...]]:
    locks: dict[str, list[str]] = {}
    for stage in stages:
        locks.setdefault(posixpath.relpath(_lock_of(repo, stage), root), []).append(stage.name)
    return {path: tuple(sorted(names)) for path, names in sorted(locks.items())}


@contextmanager
def opened(repository: Repository, commit: str) -> Iterator[tuple[Any, str]]:
    """DVC's view of a commit, and where the repository's folder is in it.

    The cache's place comes from the working tree's configuration.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.fs import GitFileSystem
    from dvc.repo import Repo
    from dvc.scm import SCM, SCMError

    try:
        cache = _cache(repository)
        said = repository.run("rev-parse", "--show-prefix", "--show-toplevel").decode()
        prefix, _, top = said.partition("\n")
        root = posixpath.join("/", prefix.strip())
        scm = SCM(top.strip())
        files = GitFileSystem(scm=scm, rev=commit)
        with Repo(root, fs=files, scm=scm, config={"cache": {"dir": str(cache)}}) as repo:
            yield repo, root
    except NotDvcRepoError as fault:
        raise Unknown(
            f"{repository.folder} is no DVC repository at commit {commit[:10]}.",
            remedy="Run `dvc init`, or correct `repository` in the system file.",
        ) from fault
    except SCMError as fault:
        raise Unreachable(f"{repository.folder} cannot be read by DVC: {fault}") from fault
    except DvcException as fault:
        raise Refused(
            f"The pipeline of {repository.folder} at commit {commit[:10]} cannot be read: {fault}"
        ) from fault


def cache_folder(repository: Repository) -> Path:
    """Where DVC keeps contents, by the working tree's configuration. Raises `Unknown`."""
    from dvc.exceptions import NotDvcRepoError

    try:
        return _cache(repository)
    except NotDvcRepoError as fault:
        raise Unknown(
            f"{repository.folder} is no DVC repository.",
            remedy="Run `dvc init`, or correct `repository` in the system file.",
        ) from fault


def _cache(repository: Repository) -> Path:
    from dvc.config import Config
    from dvc.repo import Repo

    home = Path(Repo.find_dvc_dir(str(repository.folder)))
    return Path(Config(str(home))["cache"].get("dir") or home / "cache")


def maker_of(repo: Any, root: str, commit: str, out: str) -> tuple[Any, Any]:
    """The pipeline stage that makes an output, and that output."""
    from dvc.stage import PipelineStage

    wanted = posixpath.join(root, PurePosixPath(out).as_posix())
    outs = {
        found.fs_path: (stage, found)
        for stage in repo.index.stages
        if isinstance(stage, PipelineStage)
        for found in stage.outs
    }
    if wanted not in outs:
        known = ", ".join(sorted(path.lstrip("/") for path in outs)) or "none"
        raise Unknown(
            f"No stage makes `{out}` at commit {commit[:10]}.",
            remedy=f"Outputs there: {known}. Correct `out` in the system file.",
        )
    return outs[wanted]


def upstream(repo: Any, stage: Any) -> list[Any]:
    """The stage and all pipeline stages that it needs."""
    from dvc.stage import PipelineStage
    from networkx import descendants

    needed = [stage, *descendants(repo.index.graph, stage)]
    return [each for each in needed if isinstance(each, PipelineStage)]


def is_code(repo: Any, dep: Any) -> bool:
    """Whether git has a dependency at this commit, and DVC no part of it: code, parameters."""
    if not repo.fs.exists(dep.fs_path):
        return False
    tracked = [out.fs_path for out in repo.index.outs]
    return not any(repo.fs.isin_or_eq(path, dep.fs_path) for path in tracked)


def _refuse_stale(code: Mapping[Any, list[Any]], commit: str) -> None:
    """The features must have been made by the very code that the commit has."""
    faults = [f"the command of `{stage.name}`" for stage in code if stage.cmd_changed]
    faults += [
        dep.fs_path.lstrip("/") for deps in code.values() for dep in deps if dep.workspace_status()
    ]
    if faults:
        raise Refused(
            f"dvc.lock at commit {commit[:10]} is older than its pipeline: "
            f"{', '.join(sorted(set(faults)))} changed after the features were made.",
            remedy="Run `dvc repro`, commit dvc.lock, then ask for that commit.",
        )


def _lock_of(repo: Any, stage: Any) -> str:
    return str(repo.fs.join(repo.fs.parent(stage.dvcfile.path), "dvc.lock"))


def _objects(out: Any, commit: str, name: str) -> dict[str, Object]:
    """Where the cache should have each file, whether or not it is there."""
    found = out.get_obj()
    if found is None:
        raise missing(out.cache.oid_to_path(out.hash_info.value), name, commit)
    return _listed(found, out.cache, name, commit)


def _listed(found: Any, cache: Any, name: str, commit: str) -> dict[str, Object]:
    from dvc_data.hashfile.tree import Tree

    if not isinstance(found, Tree):
        raise Refused(
            f"`{name}` is one file at commit {commit[:10]}.",
            remedy="Features are a folder: let the stage write into one.",
        )
    objects = {}
    for key, _, info in found:
        if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in key):
            raise Refused(f"`{name}` at commit {commit[:10]} has the path {key!r}.")
        place = Path(cache.oid_to_path(info.value))
        objects["/".join(key)] = Object(place, info.value, cache.hash_name)
    return objects


def missing(path: Path | str, file: str, commit: str) -> NotRestorable:
    """The error for an object that DVC's cache does not have."""
    return NotRestorable(
        f"DVC's cache lacks the object {path} of `{file}`.",
        remedy=f"Run `dvc pull`, or `dvc repro`, at commit {commit[:10]}.",
    )
