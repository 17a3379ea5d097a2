"""Files that survive a crash: whole folders published at once, links swapped at once.

A name either leads to what it led to before or to the new content, complete and
on disk. POSIX only: symbolic links, `rename` over a name, `flock` on folders.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from ebbtide.core.crashpoints import reach
from ebbtide.core.digests import tree_digest
from ebbtide.core.errors import Conflict, NotRestorable, Refused, Unreachable
from ebbtide.core.fencing import still_ours

_LEFTOVER = ".ebbtide-tmp"
_WRITABLE = 0o222
_PATIENCE = 60.0
"""Seconds to wait for who holds a folder."""
_A_SWAP = 3.0
"""The same where it can only be held for a rename and a sync."""
_PAUSE = 0.005


def publish_tree(build: Callable[[Path], None], final: Path) -> bool:
    """Let `build` fill a folder aside, then give it its name, whole and on disk.

    Does nothing where `final` is there already; where two build it at once, one
    wins and both succeed. What `build` raises is raised; nothing is left then.
    Files become read-only. A killed build leaves a hidden folder beside `final`,
    which the next build of the same `final` removes. True: it was this build that got the name.
    """
    if final.exists():
        return False
    won = True
    with scratch(final) as folder:
        build(folder)
        _settle(folder)
        reach("files.publish_tree/built")
        try:
            folder.rename(final)
        except OSError:
            if not final.is_dir():
                raise
            won = False
    _sync(final.parent)
    return won


def publish_verified(build: Callable[[Path], None], store: Path, digest: str) -> Path:
    """The folder `<store>/<digest>`, built where it is missing, and its digest proved.

    Raises `NotRestorable` where what was built, or what stands there, has
    another digest. What stands there is left as it is: it is evidence.
    """
    final = store / digest

    def checked(folder: Path) -> None:
        build(folder)
        found = _digest_of(folder)
        if found != digest:
            raise NotRestorable(
                f"The content to be kept as {digest[:10]} has the digest {found[:10]}.",
                remedy="It was changed since it was pinned: pin it again.",
            )

    return final if publish_tree(checked, final) else verified(final, digest)


def verified(folder: Path, digest: str) -> Path:
    """The folder, its content proved to have the digest. Raises `NotRestorable`."""
    fault = fault_of(folder, digest)
    if fault:
        raise NotRestorable(fault, remedy="Remove that folder, then prepare the release again.")
    return folder


def fault_of(folder: Path, digest: str) -> str:
    """Why the folder is not the kept content of that digest; empty: it is."""
    if not folder.is_dir():
        return f"The kept copy {folder} is missing."
    found = _digest_of(folder)
    return "" if found == digest else f"The kept copy {folder} was changed (now {found[:10]})."


def stray_links(folder: Path) -> list[str]:
    """Links below a folder that do not lead to a file inside it, by relative path.

    Links to folders are among them: a tree's digest does not see behind those.
    """
    inside = folder.resolve()
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(inside))
    )


def link_target(link: Path) -> Path | None:
    """What a symbolic link leads to, absolute; None where nothing is there.

    Raises `Refused` where something else than a link stands there.
    """
    if link.is_symlink():
        return place(link.parent / os.readlink(link))
    if link.exists():
        raise Refused(
            f"{link} is a regular {'folder' if link.is_dir() else 'file'}, not a link.",
            remedy=f"Move it away (nothing is deleted for you), then retry: {link} must be a link.",
        )
    return None


def place(path: Path) -> Path:
    """Where a path is, absolute; what its last part may lead to is left open."""
    if path.name in ("", ".."):
        return path.resolve()
    return path.parent.resolve() / path.name


def replace_link(link: Path, target: Path | None, *, only_from: Collection[Path | None]) -> None:
    """Let a symbolic link lead to `target` in one step; None: take the link away.

    A reader sees the old target or the new one, never neither. Does nothing where
    it leads there already. Raises `Conflict` where it leads neither there nor to
    one of `only_from`, `Refused` where no link but something else stands there.
    """
    link.parent.mkdir(parents=True, exist_ok=True)
    wanted = None if target is None else place(target)
    with _locked(link.parent, _A_SWAP) as mine:
        if not mine:
            _sweep(link)  # who holds it sleeps: what it has made to swap in is taken away
        now = link_target(link)
        if now == wanted:
            return
        if now not in [None if path is None else place(path) for path in only_from]:
            raise Conflict(
                f"{link} leads to {now or 'nothing'}, while it was about to lead to "
                f"{wanted or 'nothing'}.",
                remedy="Somebody else has moved it: find out who, then plan again.",
            )
        if wanted is None:
            still_ours()
            link.unlink()
        else:
            _swap(link, wanted)
        _sync(link.parent)


def _swap(link: Path, target: Path) -> None:
    """Relative, so that a folder that holds both the link and the target can be moved."""
    text = os.path.relpath(target, link.parent.resolve())
    _sweep(link)
    with tempfile.TemporaryDirectory(
        prefix=f".{link.name}.", suffix=_LEFTOVER, dir=link.parent
    ) as aside:
        made = Path(aside) / link.name
        made.symlink_to(text)
        reach("files.replace_link/made")
        still_ours()
        made.replace(link)
        reach("files.replace_link/replaced")


@contextmanager
def scratch(final: Path) -> Iterator[Path]:
    """A hidden folder beside `final`, removed at the end.

    It is locked while this process lives; what killed processes left is removed.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with locked(final.parent):
        _sweep(final)
        folder = Path(
            tempfile.mkdtemp(prefix=f".{final.name}.", suffix=_LEFTOVER, dir=final.parent)
        )
        mark = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(mark, fcntl.LOCK_EX)
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
        os.close(mark)


def _sweep(final: Path) -> None:
    """Remove what killed builds of this very name left: nobody holds their lock."""
    for folder in final.parent.glob(f".{final.name}.*{_LEFTOVER}"):
        with suppress(OSError):
            mark = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(mark)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone among the processes of this host that ask for the same folder.

    Raises `Unreachable` where another one does not let go of it.
    """
    with _locked(folder, _PATIENCE) as mine:
        if not mine:
            raise Unreachable(
                f"Another process has held {folder} for {_PATIENCE:g} s.",
                remedy="Find out which one hangs: `lsof` names it.",
            )
        yield


@contextmanager
def _locked(folder: Path, patience: float) -> Iterator[bool]:
    """The same; False where another process does not let go, perhaps because it sleeps."""
    mark = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _lock(mark, patience)
    finally:
        os.close(mark)


def _lock(mark: int, patience: float) -> bool:
    deadline = monotonic() + patience
    while True:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() > deadline:
                return False
            sleep(_PAUSE)
        else:
            return True


def _settle(folder: Path) -> None:
    """Everything below on disk, files first, read-only from here on."""
    for where, _, files in os.walk(folder, topdown=False):
        for name in files:
            path = Path(where) / name
            if path.is_symlink():
                continue
            _sync(path)
            path.chmod(path.stat().st_mode & ~_WRITABLE)
        _sync(Path(where))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest_of(folder: Path) -> str:
    """Empty for an empty folder, so that it never passes for a content."""
    try:
        return tree_digest(folder)
    except FileNotFoundError:
        return ""
