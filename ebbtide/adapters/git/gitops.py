"""Manifests in a git repository that a cluster follows (Argo CD, Flux, a script).

A pin is the content of the manifests: those of a commit, with the versions of
the release written into them. What is live is what the branch's tip has. A
move adds one commit, forwards and backwards; history is never rewritten.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath

from ebbtide.adapters.disk.files import fault_of, publish_verified, verified
from ebbtide.adapters.git.clone import Clone, is_url
from ebbtide.adapters.git.health import wait_until_reported
from ebbtide.adapters.git.manifests import value_at, with_values
from ebbtide.adapters.git.repository import GitError
from ebbtide.adapters.system.things import GitopsThing
from ebbtide.core.digests import bytes_digest, canonical, digest
from ebbtide.core.errors import (
    BadConfiguration,
    Conflict,
    GateNotPassed,
    NotRestorable,
    Refused,
    Unknown,
    Unreachable,
)
from ebbtide.core.release import Pin, Release

_ATTEMPTS = 5
"""Pushes in a row that others may be faster with, in files that are not ours."""
_TRAILER = "Ebbtide-Pin: "

Manifests = Mapping[str, bytes]
"""The files of a thing by path; empty where there are none."""


class Gitops:
    """The `gitops` things of the `infra` layer. Safe beside any other committer to the branch."""

    def __init__(
        self, state: Path, things: Mapping[str, GitopsThing], at: Callable[[str], Path]
    ) -> None:
        """`at` makes a path of the system file absolute. Raises `BadConfiguration`."""
        self._things = things
        self._kept = state / "gitops" / "kept"
        self._clones = {}
        for name, thing in things.items():
            _refuse_odd(name, thing)
            remote = thing.repository if is_url(thing.repository) else str(at(thing.repository))
            folder = state / "gitops" / f"{name}.git"
            self._clones[name] = Clone(folder, remote, thing.branch)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._things)

    def pin(self, name: str, ask: str = "") -> Pin:
        """The manifests at a commit, kept. Empty: at the branch's tip.

        Where ebbtide itself wrote what is there, this is the very pin that it wrote.
        """
        clone = self._clone(name)
        tip = clone.fetch()
        commit = clone.commit(ask) if ask else tip
        files = self._read(name, commit)
        missing = sorted(set(self._things[name].files) - set(files))
        if missing:
            raise Unknown(
                f"infra `{name}`: commit {commit[:10]} has no {', '.join(missing)}.",
                remedy="Correct `files` in the system file, or commit the manifests first.",
            )
        return self._keep(self._told(name, commit, files), files)

    def derive(self, pin: Pin, release: Release) -> Pin:
        """The pin with the versions of this release in the keys that the system file names."""
        values = self._values(pin.name, release)
        if not values or pin.at.get("values") == _text(values):
            return pin
        at = {**pin.at, "values": _text(values)}
        files = self._render(pin.name, at)
        if _digest(files) == pin.digest:
            return pin
        return self._keep(Pin(pin.name, _digest(files), at), files)

    def problems(self, pin: Pin) -> list[str]:
        """Also raises `Unreachable` where the manifest repository is away: it could not follow."""
        self._clone(pin.name).fetch()
        odd = self._odd(pin)
        if odd:
            return [odd]
        if self._folder(pin).exists():
            fault = fault_of(self._folder(pin), pin.digest)
            return [fault] if fault else []
        try:
            self._rendered(pin)
        except Refused as fault:
            return [fault.message]
        return []

    def prepare(self, pin: Pin) -> None:
        """Keep the manifests of the pin. Raises `NotRestorable`."""
        if not self._folder(pin).exists():
            self._keep(pin, self._rendered(pin))
        verified(self._folder(pin), pin.digest)

    def path(self, pin: Pin) -> Path:
        """The kept manifests, as a folder."""
        return self._folder(pin)

    def live(self, name: str) -> Pin | None:
        """What the tip of the branch has now; the health URL is not asked."""
        tip = self._clone(name).fetch()
        files = self._read(name, tip)
        return self._told(name, tip, files) if files else None

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        """Add a commit with the manifests of `to`, then wait until the cluster reports them.

        Commits of others to other files stay and are built upon. Raises
        `Conflict` where others have changed these files, `GateNotPassed` where
        the health URL does not report the new version in time.
        """
        self._clone(name)
        wanted = self._content(to) if to else {}
        former = {pin.digest if pin else "" for pin in only_from}
        self._commit(name, wanted, former, _message(name, to, note))
        health = self._things[name].health
        if to is not None and health is not None:
            expected = value_at(wanted.get(health.file, b""), health.key, health.file)
            if expected is None:
                raise GateNotPassed(
                    f"infra `{name}`: {health.file} has no value at `{health.key}`, so nothing "
                    f"says what {health.url} is to report."
                )
            wait_until_reported(health, expected)

    def _commit(self, name: str, wanted: Manifests, former: Collection[str], message: str) -> None:
        """Let the branch have the wanted files, read back from the remote."""
        clone, paths = self._clones[name], self._things[name].files
        tip = clone.fetch()
        for _ in range(_ATTEMPTS):
            now = _digest(self._read(name, tip))
            if now == _digest(wanted):
                return
            if now not in former:
                raise Conflict(
                    f"infra `{name}`: commit {tip[:10]} has other manifests than were there.",
                    remedy="Somebody else has changed them: find out who, then plan again.",
                )
            made = clone.commit_files(tip, {path: wanted.get(path) for path in paths}, message)
            tip = self._pushed(clone, made, tip)
        raise Conflict(
            f"infra `{name}`: others pushed to the branch {_ATTEMPTS} times in a row.",
            remedy="Stop them for a moment, and try again.",
        )

    def _pushed(self, clone: Clone, made: str, before: str) -> str:
        """Where the branch is after a push, whatever became of the push's answer."""
        try:
            clone.push(made, only_from=before)
        except (GitError, Unreachable):
            now = clone.fetch()
            if now == before:
                raise  # nobody was faster: the remote does not take it
            return now
        return clone.fetch()

    def _content(self, pin: Pin) -> Manifests:
        odd = self._odd(pin)
        if odd:
            raise NotRestorable(odd)
        if not self._folder(pin).exists():
            return self._rendered(pin)
        folder = verified(self._folder(pin), pin.digest)
        return {path: (folder / path).read_bytes() for path in _paths(pin.at)}

    def _rendered(self, pin: Pin) -> Manifests:
        """The pinned content, made again from its commit. Raises `NotRestorable`."""
        clone, commit = self._clone(pin.name), pin.at.get("commit", "")
        if not clone.has(commit):
            clone.fetch()
        if not clone.has(commit):
            raise NotRestorable(
                f"infra `{pin.name}`: commit {commit[:10] or 'unknown'} is gone from the manifest "
                f"repository and no copy of {pin.digest[:10]} is kept."
            )
        files = self._render(pin.name, pin.at)
        if _digest(files) != pin.digest:
            raise NotRestorable(
                f"infra `{pin.name}`: commit {commit[:10]} makes {_digest(files)[:10]}, "
                f"not the pinned {pin.digest[:10]}."
            )
        return files

    def _render(self, name: str, at: Mapping[str, str]) -> Manifests:
        """The manifests of the pin's commit, with its values written into them."""
        files = self._clones[name].files(at["commit"], self._things[name].files)
        values = json.loads(at.get("values", "{}"))
        return {
            path: with_values(content, values.get(path, {}), path) if values.get(path) else content
            for path, content in files.items()
        }

    def _read(self, name: str, commit: str) -> Manifests:
        return self._clones[name].files(commit, self._things[name].files)

    def _told(self, name: str, commit: str, files: Manifests) -> Pin:
        """The pin of what a commit has, as ebbtide's own commit tells it, else by its commit.

        The same content is the same pin, whatever else was committed since.
        """
        origin, message = self._clones[name].last_commit(commit, self._things[name].files)
        at = {"commit": origin or commit, "files": "\n".join(sorted(self._things[name].files))}
        pin = Pin(name, _digest(files), at)
        told = _trailer(message)
        if told is None or told.digest != pin.digest or told.name != name or self._odd(told):
            return pin
        return told

    def _values(self, name: str, release: Release) -> dict[str, dict[str, str]]:
        found = {
            path: {key: _version(name, source, release) for key, source in keys.items()}
            for path, keys in self._things[name].files.items()
        }
        return {path: values for path, values in found.items() if values}

    def _odd(self, pin: Pin) -> str:
        """Why the pin's files are not those of the system file; empty: they are."""
        self._clone(pin.name)
        mine = set(self._things[pin.name].files)
        if set(_paths(pin.at)) == mine:
            return ""
        return (
            f"infra `{pin.name}` was pinned with {', '.join(_paths(pin.at)) or 'no files'}; "
            f"the system file names {', '.join(sorted(mine))}."
        )

    def _keep(self, pin: Pin, files: Manifests) -> Pin:
        def write(folder: Path) -> None:
            for path, content in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)

        publish_verified(write, self._kept, pin.digest)
        return pin

    def _folder(self, pin: Pin) -> Path:
        return self._kept / pin.digest

    def _clone(self, name: str) -> Clone:
        if name not in self._clones:
            raise Unknown(f"No infra `{name}`.", remedy=f"Known here: {', '.join(self._things)}.")
        return self._clones[name]


def _version(name: str, source: str, release: Release) -> str:
    """What a release pins, asked for as `layer/thing` or `layer/thing@what`."""
    thing, _, what = source.partition("@")
    layer, _, of = thing.partition("/")
    pin = release.pin(layer, of)
    place = f"infra `{name}`: `{source}`"
    if pin is None or (layer, of) == ("infra", name):
        there = ", ".join(f"{layer}/{pin.name}" for layer in release.layers
                          for pin in release.pins(layer))  # fmt: skip
        raise BadConfiguration(f"{place} is nothing that the release pins: {there}.")
    known = {**pin.at, "digest": pin.digest}
    if (what or "version") not in known:
        raise BadConfiguration(
            f"{place}: {thing} has no `{what or 'version'}`.",
            remedy=f"Write {thing}@ and one of {', '.join(sorted(known))}.",
        )
    return known[what or "version"]


def _refuse_odd(name: str, thing: GitopsThing) -> None:
    for path in thing.files:
        pure = PurePosixPath(path)
        lower = [part.lower() for part in pure.parts]
        if str(pure) != path or pure.is_absolute() or {"..", ".", ".git"} & set(lower):
            raise BadConfiguration(f"layers.infra.{name}.files `{path}` is no path of a file.")


def _digest(files: Manifests) -> str:
    """As of a folder with these files; empty where there are none."""
    return digest({path: bytes_digest(files[path]) for path in files}) if files else ""


def _text(values: Mapping[str, Mapping[str, str]]) -> str:
    return canonical(values).decode()


def _paths(at: Mapping[str, str]) -> list[str]:
    return [path for path in at.get("files", "").split("\n") if path]


def _message(name: str, to: Pin | None, note: str) -> str:
    what = f"to {to.digest[:10]}" if to else "away"
    pin = f"\n{_TRAILER}{canonical(to.to_json()).decode()}" if to else ""
    return f"ebbtide: {name} {what}\n\nEbbtide-Saga: {note}{pin}\n"


def _trailer(message: str) -> Pin | None:
    """The pin that a commit of ebbtide's own tells. What others wrote is only ever compared."""
    lines = [line for line in message.splitlines() if line.startswith(_TRAILER)]
    if len(lines) != 1:
        return None
    try:
        pin = Pin.from_json(json.loads(lines[0].removeprefix(_TRAILER)))
        sound = all(isinstance(part, str) for pair in pin.at.items() for part in pair)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return pin if sound else None
