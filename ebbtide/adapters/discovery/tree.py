"""A bounded look through a folder: names only, nothing is opened, no link is followed."""

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LARGEST_FOLDER = 5_000
"""Entries of one folder that are looked at: images and logs lie in such, no systems."""
_SKIPPED = frozenset(
    {"node_modules", "site-packages", "venv", "env", "__pycache__", "mlruns", "mlartifacts"}
)
DELTA_LOG = "_delta_log"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that could not be looked at, and why."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a look goes. The nearest folders are looked at first."""

    depth: int = 6
    entries: int = 100_000
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Folder:
    """The names in one folder, sorted. Links to folders are in neither."""

    files: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def is_table(self) -> bool:
        return DELTA_LOG in self.folders


@dataclass(frozen=True, slots=True)
class Tree:
    """What was seen below `root`, nearest first, and what could not be."""

    root: Path
    folders: Mapping[Path, Folder]
    troubles: tuple[Trouble, ...]

    def depth(self, folder: Path) -> int:
        return len(folder.relative_to(self.root).parts)

    def files(self) -> Iterator[Path]:
        for path, folder in self.folders.items():
            yield from (path / name for name in folder.files)

    def tables(self) -> list[Path]:
        """The Delta tables: folders with a `_delta_log`."""
        return [path for path, folder in self.folders.items() if folder.is_table]


@dataclass
class _Look:
    """One walk: what it has seen, and what is left of its limits."""

    root: Path
    limits: Limits
    entries: int = 0
    deeper: int = 0
    unread: int = 0
    troubles: list[Trouble] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.until = time.monotonic() + self.limits.seconds

    @property
    def spent(self) -> bool:
        return self.entries >= self.limits.entries or time.monotonic() > self.until

    def read(self, path: Path) -> Folder | None:
        """The names in a folder; None where it cannot be read."""
        files, folders = [], []
        try:
            with os.scandir(path) as entries:
                for count, entry in enumerate(entries):
                    if count >= _LARGEST_FOLDER:
                        why = f"only the first {_LARGEST_FOLDER} entries were looked at"
                        self.troubles.append(Trouble(str(path), why))
                        break
                    self.entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif entry.is_symlink() and entry.is_dir():
                        self._pass_by(Path(entry.path))
                    else:
                        files.append(entry.name)
        except OSError as fault:
            self.troubles.append(Trouble(str(path), f"cannot be read: {fault.strerror}"))
            return None
        return Folder(tuple(sorted(files)), tuple(sorted(folders)))

    def _pass_by(self, link: Path) -> None:
        """A link that leads out hides what lies behind it; say so."""
        target = link.resolve()
        if not target.is_relative_to(self.root.resolve()):
            self.troubles.append(Trouble(str(link), f"a link to {target}, which is not followed"))

    def said(self) -> tuple[Trouble, ...]:
        cut = []
        if self.unread:
            cut.append(f"stopped early: {self.unread} folders and all below were not looked at")
        if self.deeper:
            cut.append(f"{self.deeper} folders deeper than {self.limits.depth} were not looked at")
        return (*self.troubles, *(Trouble(str(self.root), why) for why in cut))


def look(root: Path, limits: Limits = Limits()) -> Tree:
    """The names below a folder, as far as the limits allow. Never raises.

    Not looked into: hidden folders, environments, packages, MLflow's artifacts, and
    Delta tables, which are known by their outside.
    """
    seen: dict[Path, Folder] = {}
    walk, queue = _Look(root, limits), deque([(root, 0)])
    while queue:
        if walk.spent:
            walk.unread = len(queue)
            break
        path, depth = queue.popleft()
        folder = walk.read(path)
        if folder is None or "pyvenv.cfg" in folder.files:
            continue
        seen[path] = folder
        below = [] if folder.is_table else [name for name in folder.folders if _is_plain(name)]
        if depth >= limits.depth:
            walk.deeper += len(below)
            continue
        queue.extend((path / name, depth + 1) for name in below)
    return Tree(root, seen, walk.said())


def _is_plain(name: str) -> bool:
    return not name.startswith(".") and name not in _SKIPPED
