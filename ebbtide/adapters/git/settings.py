"""Configuration and infrastructure: folders that are versioned in git.

A pin is a commit's folder, kept by its digest below the state folder; what is
live is a symbolic link to a kept folder. The user's checkout is never touched.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from ebbtide.adapters.disk.files import fault_of, publish_verified, stray_links, verified
from ebbtide.adapters.disk.keeping import KeptByDigest
from ebbtide.adapters.disk.shown import ShownFolder, folder_of
from ebbtide.adapters.git.repository import Entry, Repository
from ebbtide.adapters.system.file import SettingsThing
from ebbtide.core.digests import bytes_digest, digest
from ebbtide.core.errors import BadConfiguration, NotRestorable, Refused, Unknown
from ebbtide.core.release import Pin

_PROGRAM, _LINK, _SUBMODULE = "100755", "120000", "160000"


class Settings(KeptByDigest):
    """The `config` or the `infra` layer of a system."""

    def __init__(
        self,
        state: Path,
        things: Mapping[str, SettingsThing],
        kind: Literal["config", "infra"],
        at: Callable[[str], Path],
    ) -> None:
        """`at` makes a path of the system file absolute. Raises `BadConfiguration`."""
        self._store = state / "settings"
        self._things = things
        self._kind = kind
        self._at = at
        for name, thing in things.items():
            if not _is_inner(thing.path):
                raise BadConfiguration(
                    f"layers.{kind}.{name}.path `{thing.path}` leads out of its repository."
                )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._things)

    def pin(self, name: str, ask: str = "") -> Pin:
        """The folder at a commit, kept. Empty: at the commit that is checked out.

        Raises `Refused` for a checkout with changes that are in no commit, for
        submodules, and for links that lead out of the folder.
        """
        thing, repository = self._thing(name), self._repository(name)
        commit = repository.commit(ask) if ask else repository.head()
        if not ask:
            self._refuse_uncommitted(name, repository.changed(thing.path))
        contents = self._contents(name, commit)
        origin = repository.last_change(commit, thing.path)
        if origin and self._contents(name, origin).digest == contents.digest:
            commit = origin  # the same content is the same pin, whatever else was committed since
        pin = Pin(name, contents.digest, {"commit": commit, "path": thing.path})
        publish_verified(contents.write, self._store, pin.digest)
        return pin

    def problems(self, pin: Pin) -> list[str]:
        found = [self._shown(pin.name).blocked()]
        if "target" in pin.at:
            found.append(fault_of(self.path(pin), pin.digest))
        elif (self._store / pin.digest).exists():
            found.append(fault_of(self._store / pin.digest, pin.digest))
        else:
            found.append(self._lost(pin))
        return [problem for problem in found if problem]

    def lost_outside(self, pin: Pin) -> list[str]:
        """Why the pinned commit cannot give the content."""
        if "target" in pin.at or pin.name not in self._things:
            return []
        return [lost] if (lost := self._lost(pin)) else []

    def prepare(self, pin: Pin) -> None:
        """Keep the folder of the pinned commit. Raises `NotRestorable`."""
        folder = self.path(pin)
        if "target" in pin.at or folder.exists():
            verified(folder, pin.digest)
            return
        lost = self._lost(pin)
        if lost:
            raise NotRestorable(lost, remedy="Fetch that commit, or choose another release.")
        publish_verified(self._pinned(pin).write, self._store, pin.digest)

    def path(self, pin: Pin) -> Path:
        """The kept folder of a pin; for what was live without ebbtide, where that is."""
        return folder_of(self._store, pin)

    def live(self, name: str) -> Pin | None:
        """What the link leads to now, by its content.

        The commit is not told: several can have this very content. `target`
        is told where the link does not lead to a content that ebbtide keeps; the
        digest is empty where it leads to nothing that can be read.
        """
        shown = self._shown(name).live(by_name=False)
        if shown is None:
            return None
        found, target = shown
        return Pin(name, found, {"path": self._thing(name).path, **target})

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        """Let the link lead to the kept folder of `to`. `note` is lost: a link has no history."""
        if to is not None and "target" not in to.at:
            verified(self.path(to), to.digest)
        self._shown(name).show(to, only_from)

    def _thing(self, name: str) -> SettingsThing:
        if name not in self._things:
            raise Unknown(
                f"No {self._kind} `{name}`.",
                remedy=f"Known here: {', '.join(self._things)}.",
            )
        return self._things[name]

    def _repository(self, name: str) -> Repository:
        return Repository(self._at(self._thing(name).repository))

    def _shown(self, name: str) -> ShownFolder:
        return ShownFolder.of(self._thing(name).link, self._store, self._at)

    def _refuse_uncommitted(self, name: str, files: Sequence[str]) -> None:
        if files:
            raise Refused(
                f"{self._kind} `{name}` has changes that are in no commit: {_some(files)}.",
                remedy="Commit or stash them, or ask for a commit by its hash.",
            )

    def _lost(self, pin: Pin) -> str:
        """Why the pinned commit cannot give the pinned content; empty: it can."""
        commit = pin.at.get("commit", "")
        if not self._repository(pin.name).has(commit):
            return (
                f"{self._kind} `{pin.name}`: commit {commit[:10] or 'unknown'} is gone from the "
                f"repository and no copy of {pin.digest[:10]} is kept."
            )
        try:
            found = self._pinned(pin).digest
        except Refused as fault:
            return str(fault)
        if found != pin.digest:
            return (
                f"{self._kind} `{pin.name}`: commit {commit[:10]} has the content {found[:10]}, "
                f"not the pinned {pin.digest[:10]}."
            )
        return ""

    def _pinned(self, pin: Pin) -> "_Contents":
        path = pin.at.get("path", "")
        if path != self._thing(pin.name).path:
            raise NotRestorable(
                f"{self._kind} `{pin.name}` was pinned from `{path}`; the system file names "
                f"`{self._thing(pin.name).path}`."
            )
        return self._contents(pin.name, pin.at.get("commit", ""))

    def _contents(self, name: str, commit: str) -> "_Contents":
        repository = self._repository(name)
        entries = repository.entries(commit, self._thing(name).path)
        if not entries:
            raise Unknown(f"{self._kind} `{name}` has no files at commit {commit[:10]}.")
        for entry in entries:
            _refuse_unsafe(name, entry)
        return _Contents(name, entries, repository.contents(entries))


class _Contents:
    """The files of a folder at one commit."""

    def __init__(self, name: str, entries: Sequence[Entry], blobs: Mapping[str, bytes]) -> None:
        self._entries = entries
        self._blobs = blobs
        followed = {entry.path: self._behind(name, entry) for entry in entries}
        self.digest = digest({path: bytes_digest(blobs[at]) for path, at in followed.items()})

    def write(self, folder: Path) -> None:
        """Links last, so that nothing is ever written through one."""
        for entry in sorted(self._entries, key=lambda entry: entry.mode == _LINK):
            path = folder / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            content = self._blobs[entry.path]
            if entry.mode == _LINK:
                path.symlink_to(os.fsdecode(content))
                continue
            with path.open("xb") as file:
                file.write(content)
            path.chmod(0o755 if entry.mode == _PROGRAM else 0o644)
        strays = stray_links(folder)
        if strays:
            raise Refused(f"Links lead out of the folder: {_some(strays)}.")

    def _behind(self, name: str, entry: Entry) -> str:
        """The path of the file that an entry is, or that it leads to as a link."""
        if entry.mode != _LINK:
            return entry.path
        target = os.fsdecode(self._blobs[entry.path])
        path = os.path.normpath(PurePosixPath(entry.path).parent / target)
        plain = {other.path for other in self._entries if other.mode != _LINK}
        if os.path.isabs(target) or path not in plain:
            raise Refused(
                f"`{name}`: the link {entry.path} does not lead to a file of the same folder.",
                remedy="Replace it by the file that it leads to.",
            )
        return path


def _refuse_unsafe(name: str, entry: Entry) -> None:
    if entry.mode == _SUBMODULE:
        raise Refused(
            f"`{name}`: {entry.path} is a submodule; its content is not in this repository.",
            remedy="Pin a folder without submodules.",
        )
    parts = entry.path.split("/")
    odd = {"", ".", ".."} & set(parts) or any(part.lower() == ".git" for part in parts)
    if odd or not _is_text(entry.path):
        raise Refused(f"`{name}`: {entry.path!r} is no path that can be kept.")


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_inner(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts


def _some(files: Sequence[str]) -> str:
    shown = ", ".join(files[:5])
    return shown if len(files) <= 5 else f"{shown} and {len(files) - 5} more"
