"""Whether stages keep to their checkout: what they declare, and what they touch outside."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.adapters.dvc.checkout import Checkout
from ebbtide.adapters.git.repository import Repository
from ebbtide.core.errors import EbbtideError, GateNotPassed, NotRestorable, Refused

_NAMED = 5
"""Files that an error names at most."""

_Look = tuple[int, int, int, int] | None
"""Inode, mode, size and time of change; None: nothing is there."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a run of some stages writes."""

    files: tuple[Path, ...]
    """In the checkout, absolute."""
    locks: Mapping[str, tuple[str, ...]]
    """The stages, by the dvc.lock that tells of them, relative to the checkout's folder."""
    given: tuple[str, ...]
    """The `.dvc` files of the data that stages read and none makes: a new checkout lacks it."""


def run_outputs(checkout: Checkout, stages: Sequence[str]) -> Outputs:
    """The outputs of stages and of all pipeline stages that they need.

    Raises `Refused` where there is no such stage, or an output lies elsewhere
    than on this disk: it would be written over while it serves.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(checkout.folder)) as repo:
            found = _with_needed(repo, checkout.folder, stages)
            outs = [(stage, out) for stage in found for out in stage.outs]
            far = [f"`{out}` of stage `{stage.name}`" for stage, out in outs if _is_far(out)]
            locks: dict[str, list[str]] = {}
            for stage in found:
                lock = posixpath.join(posixpath.dirname(stage.dvcfile.path), "dvc.lock")
                locks.setdefault(os.path.relpath(lock, checkout.folder), []).append(stage.name)
            files = tuple(sorted({Path(out.fs_path) for _, out in outs}))
            given = _given(repo, checkout.folder, found)
    except DvcException as fault:
        raise Refused(f"The pipeline cannot be read: {fault}") from fault
    if far:
        raise Refused(
            f"{', '.join(far)} is not in the repository: the run would write over what is there.",
            remedy="Let the stage write into a folder of its own repository.",
        )
    by_lock = {lock: tuple(sorted(names)) for lock, names in sorted(locks.items())}
    return Outputs(files, by_lock, given)


def bring_given(checkout: Checkout, outputs: Outputs) -> None:
    """Bring the data that no stage makes from DVC's cache. Raises `NotRestorable`."""
    from dvc.exceptions import CheckoutError, DvcException
    from dvc.repo import Repo

    if not outputs.given:
        return
    try:
        with Repo(str(checkout.folder)) as repo:
            repo.checkout(targets=[str(checkout.folder / each) for each in outputs.given])
    except DvcException as fault:
        lost = fault.target_infos if isinstance(fault, CheckoutError) else [str(fault)]
        raise NotRestorable(
            f"DVC's cache lacks data that the pipeline reads: {', '.join(map(str, lost))}.",
            remedy="Run `dvc pull`, then order it again.",
        ) from fault


def refuse_stray(
    checkout: Checkout, outputs: Outputs, *, error: type[EbbtideError] = Refused
) -> None:
    """Raise where an output leads out of its checkout through a symbolic link.

    DVC's own links into its cache are no such thing.
    """
    top, cache = checkout.top.resolve(), checkout.cache.resolve()
    stray = []
    for file in outputs.files:
        if not file.parent.resolve().is_relative_to(top):
            stray.append(file)
            continue
        below = file.rglob("*") if file.is_dir() and not file.is_symlink() else ()
        for path in (file, *below):
            end = path.resolve()
            if path.is_symlink() and not (end.is_relative_to(top) or end.is_relative_to(cache)):
                stray.append(path)
    if stray:
        names = ", ".join(
            f"`{os.path.relpath(path, checkout.folder)}` (to {path.resolve()})"
            for path in stray[:_NAMED]
        )
        raise error(
            f"An output of the pipeline leads out of its repository: {names}.",
            remedy="Let the stage write into a folder of its own repository.",
        )


@dataclass(frozen=True, slots=True)
class Untouched:
    """What must be the same after a run: the files of the user's checkout."""

    repository: Repository
    outs: tuple[Path, ...]
    head: bytes
    seen: Mapping[str, _Look]

    @classmethod
    def of(cls, repository: Repository, checkout: Checkout, outputs: Outputs) -> "Untouched":
        """Remember how the user's checkout is now, with its own copies of the outputs."""
        whole = Path(os.fsdecode(repository.run("rev-parse", "--show-toplevel")).rstrip("\n"))
        top = checkout.top
        outs = tuple(
            whole / file.relative_to(top) for file in outputs.files if file.is_relative_to(top)
        )
        return cls(repository, outs, _head(repository), _looks(repository, whole, outs))

    def check(self) -> None:
        """Raise `GateNotPassed` where it is another now."""
        whole = Path(os.fsdecode(self.repository.run("rev-parse", "--show-toplevel")).rstrip("\n"))
        now = _looks(self.repository, whole, self.outs)
        names = sorted({*now, *self.seen})
        changed = [name for name in names if now.get(name) != self.seen.get(name)]
        if _head(self.repository) != self.head:
            changed.insert(0, "HEAD")
        if changed:
            more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
            raise GateNotPassed(
                f"{self.repository.folder} was changed while the pipeline ran aside: "
                f"{', '.join(changed[:_NAMED])}{more}. A stage may have written outside of its "
                "worktree, and so not made what it says.",
                remedy="Was it you? Order it again: what was computed is in DVC's cache. Else let "
                "the stage write to paths that are relative to its repository.",
            )


def _with_needed(repo: Any, folder: Path, stages: Sequence[str]) -> list[Any]:
    from dvc.stage import PipelineStage
    from networkx import descendants

    found = []
    for address in stages:
        file, _, name = address.rpartition(":")
        for stage in repo.stage.load_all(str(folder / (file or "dvc.yaml")), name or address):
            found += [stage, *descendants(repo.index.graph, stage)]
    unique = {stage.addressing: stage for stage in found if isinstance(stage, PipelineStage)}
    return list(unique.values())


def _given(repo: Any, folder: Path, stages: Sequence[Any]) -> tuple[str, ...]:
    from dvc.stage import PipelineStage

    owners = {
        owner.dvcfile.path
        for stage in stages
        for dep in stage.deps
        for owner in repo.index.stages
        for out in owner.outs
        if not isinstance(owner, PipelineStage)
        and not _is_far(out)
        and (repo.fs.isin_or_eq(dep.fs_path, out.fs_path) or repo.fs.isin(out.fs_path, dep.fs_path))
    }
    return tuple(sorted(os.path.relpath(path, folder) for path in owners))


def _is_far(out: Any) -> bool:
    """DVC keeps the path as it was written only where it is no part of the repository."""
    return out.protocol not in ("local", "file") or not out.is_in_repo


def _head(repository: Repository) -> bytes:
    """The commit, and the branch that it is on."""
    return repository.run("rev-parse", "HEAD", "--symbolic-full-name", "HEAD")


def _looks(repository: Repository, whole: Path, outs: Sequence[Path]) -> dict[str, _Look]:
    said = Repository(whole).run("ls-files", "-z", "--cached")
    paths = {whole / os.fsdecode(name) for name in said.split(b"\0") if name}
    for out in outs:
        paths |= {out, *(out.rglob("*") if out.is_dir() else ())}
    return {os.path.relpath(path, whole): _look(path) for path in paths}


def _look(path: Path) -> _Look:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns
