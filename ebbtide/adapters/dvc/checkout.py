"""A commit checked out aside, as a git and DVC repository of its own.

It shares the objects of the user's repository and the user's DVC cache, and
nothing else: neither the working tree nor the index nor `.git` of the user is
written to, and no hook or filter runs. Files of Git LFS and submodules stay
pointers.
"""

import fcntl
import os
import posixpath
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.adapters.disk.files import locked
from ebbtide.adapters.git.repository import GitError, Repository, environment
from ebbtide.core.errors import NotRestorable, Refused, Unknown

_CHECKOUT_WITHIN = 600.0
"""Seconds for git to write a commit's files."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A commit of a repository, checked out aside."""

    top: Path
    """The folder of the whole commit."""
    folder: Path
    """What is `repository.folder` in the user's checkout."""
    spare: Path
    """A folder beside it, for what its programs would leave elsewhere."""
    cache: Path
    """The DVC cache that it shares with the user's checkout."""
    mark: int
    """A file descriptor: while it is open anywhere, nobody sweeps the checkout away."""


@contextmanager
def checked_out(repository: Repository, commit: str, state: Path) -> Iterator[Checkout]:
    """A commit below `<state>/aside`; gone afterwards. What killed runs left there goes, too.

    Raises `Unknown` where the commit has no DVC repository in that folder,
    `NotRestorable` where it is gone from git.
    """
    if not repository.has(commit):
        raise NotRestorable(
            f"There is no commit `{commit[:40]}` in {repository.folder}.",
            remedy="Fetch it, or choose another.",
        )
    with _own_folder(state / "aside", commit) as (folder, mark):
        top = folder / "tree"
        _materialise(repository, commit, top)
        prefix = repository.run("rev-parse", "--show-prefix").decode().strip()
        spare = folder / "spare"
        spare.mkdir()
        cache = _share_cache(repository, top, spare, commit)
        yield Checkout(top, top / prefix, spare, cache, mark)


@contextmanager
def _own_folder(parent: Path, commit: str) -> Iterator[tuple[Path, int]]:
    parent.mkdir(parents=True, exist_ok=True)
    with locked(parent):
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{commit[:10]}.", dir=parent)).resolve()
        mark = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(mark, fcntl.LOCK_EX)
    try:
        yield folder, mark
    finally:
        _remove(folder)
        os.close(mark)


def _sweep(parent: Path) -> None:
    """Remove what nobody holds any more: its process was killed, and all that it had started."""
    for folder in parent.iterdir():
        with suppress(OSError):
            mark = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
            finally:
                os.close(mark)


def _remove(folder: Path) -> None:
    """All of it, also what a stage made read-only."""

    def open_up(remove: Callable[..., Any], path: str, _fault: Any) -> None:
        with suppress(OSError):
            Path(path).parent.chmod(0o700)
            if not Path(path).is_symlink():
                Path(path).chmod(0o700)
            shutil.rmtree(path) if os.path.isdir(path) else remove(path)  # noqa: PTH112 - bytes or text, as it came

    shutil.rmtree(folder, onerror=open_up)


def _materialise(repository: Repository, commit: str, top: Path) -> None:
    """A new repository on the user's objects, with the commit checked out."""
    shared = Path(os.fsdecode(repository.run("rev-parse", "--git-common-dir")).rstrip("\n"))
    shared = (repository.folder / shared).resolve()
    form = repository.run("rev-parse", "--show-object-format").decode().strip()
    top.mkdir()
    made = _Patient(top)
    made.run("init", "--quiet", "--template=", f"--object-format={form}")
    (top / ".git/objects/info").mkdir(parents=True, exist_ok=True)
    (top / ".git/objects/info/alternates").write_bytes(os.fsencode(shared / "objects") + b"\n")
    if (shared / "shallow").exists():
        shutil.copyfile(shared / "shallow", top / ".git/shallow")
    try:
        made.run("checkout", "--quiet", "--detach", "--no-recurse-submodules", commit, "--")
    except GitError as fault:
        raise NotRestorable(
            f"Commit {commit[:10]} of {repository.folder} cannot be checked out: {fault.message}",
            remedy="`git fsck` lists what is gone; free space where the disk is full.",
        ) from fault


class _Patient(Repository):
    """A checkout of a large commit takes longer than a question."""

    def run(self, *arguments: str, feed: bytes | None = None) -> bytes:
        return self._run(arguments, feed, environment(), _CHECKOUT_WITHIN)


def _share_cache(repository: Repository, top: Path, spare: Path, commit: str) -> Path:
    """Let the checkout's DVC use the user's cache, as the user's does. Returns where that is."""
    from dvc.config import Config
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        home = Path(Repo.find_dvc_dir(str(repository.folder))).resolve()
    except NotDvcRepoError as fault:
        raise _no_dvc(repository, commit) from fault
    whole = Path(os.fsdecode(repository.run("rev-parse", "--show-toplevel")).rstrip("\n")).resolve()
    mine = top / posixpath.relpath(home, whole)
    if not (mine / "config").is_file():
        raise _no_dvc(repository, commit)
    if not mine.resolve().is_relative_to(top.resolve()):
        raise Refused(f"{mine.name} of commit {commit[:10]} is a link that leads out of it.")
    used = Config(str(home))["cache"]
    cache = {key: used[key] for key in ("type", "shared") if used.get(key)}
    cache["dir"] = used.get("dir") or str(home / "cache")
    (mine / "config.local").unlink(missing_ok=True)
    config = Config(str(mine))
    with config.edit("local") as edited:
        edited["cache"] = {**edited.get("cache", {}), **cache}
        edited["core"] = {"analytics": False, "check_update": False, "autostage": False}
        edited["core"]["site_cache_dir"] = str(spare / "site")
    return Path(cache["dir"])


def _no_dvc(repository: Repository, commit: str) -> Unknown:
    return Unknown(
        f"{repository.folder} is no DVC repository at commit {commit[:10]}.",
        remedy="Choose a commit that has `.dvc`, or correct `repository` in the system file.",
    )
