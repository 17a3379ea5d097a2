"""What a training stage wrote of itself, commit by commit: which version it registered."""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from ebbtide.adapters.dvc.lock import cache_folder, locked
from ebbtide.adapters.git.repository import GitError, Repository

_MD5 = re.compile(r"[0-9a-f]{32}")
_LOOKED_AT = 500
"""Commits of one lock file that are looked through for who trained a version."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage's result file said, as one commit has it."""

    commit: str
    says: Mapping[str, Any]


def results(repository: Repository, stage: str, result: str) -> Iterator[Result]:
    """What the stage's result file said in each commit of any branch, newest first.

    Commits in which it cannot be read any more, or not whole, are left out.
    """
    lock = posixpath.join(posixpath.dirname(_file_of(stage)), "dvc.lock")
    read: dict[_Locked, Mapping[str, Any] | None] = {}
    for commit in _commits(repository, lock):
        content = _locked(repository, commit, lock, stage, result)
        if content is None:
            continue
        if content not in read:
            read[content] = _read_result(repository, commit, result, content)
        says = read[content]
        if says is not None:
            yield Result(commit, says)


@dataclass(frozen=True, slots=True)
class _Locked:
    """An output as dvc.lock has it."""

    key: str
    legacy: bool
    """Hashed as DVC 2 did, with other ends of lines."""


def _commits(repository: Repository, lock: str) -> list[str]:
    said = repository.run("log", "--all", f"--max-count={_LOOKED_AT}", "--format=%H", "--", lock)
    return said.decode("ascii").split()


def _locked(
    repository: Repository, commit: str, lock: str, stage: str, result: str
) -> _Locked | None:
    """What a commit's dvc.lock says of the result; None where it says nothing."""
    try:
        outs = locked(repository, commit, lock)["stages"][stage.rpartition(":")[2]]["outs"]
        found = next(out for out in outs if _same(out["path"], result))
        return _Locked(str(found["md5"]), found.get("hash") != "md5")
    except (GitError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def _same(path: str, result: str) -> bool:
    return (
        PurePosixPath(result).parts[-len(PurePosixPath(path).parts) :] == PurePosixPath(path).parts
    )


def _read_result(
    repository: Repository, commit: str, result: str, content: _Locked
) -> Mapping[str, Any] | None:
    """From DVC's cache, or from git where the pipeline keeps it there; whole, or not at all."""
    places = (
        partial(_from_cache, repository, content),
        partial(_from_git, repository, commit, result),
    )
    for read in places:
        found = read()
        if found is None or _md5(found, content) != content.key:
            continue
        try:
            says = json.loads(found)
        except ValueError:
            return None
        return says if isinstance(says, dict) else None
    return None


def _from_cache(repository: Repository, content: _Locked) -> bytes | None:
    if not _MD5.fullmatch(content.key):
        return None
    folder = cache_folder(repository)
    place = folder if content.legacy else folder / "files" / "md5"
    try:
        return (place / content.key[:2] / content.key[2:]).read_bytes()
    except OSError:
        return None


def _from_git(repository: Repository, commit: str, result: str) -> bytes | None:
    try:
        return repository.run("cat-file", "blob", f"{commit}:./{result}")
    except GitError:
        return None


def _md5(content: bytes, locked: _Locked) -> str:
    plain = content.replace(b"\r\n", b"\n") if locked.legacy else content
    return hashlib.md5(plain, usedforsecurity=False).hexdigest()


def _file_of(stage: str) -> str:
    return stage.rpartition(":")[0] or "dvc.yaml"
