"""Reading a git repository safely.

Nothing here writes to a repository, checks out, or runs what a repository
configures (hooks, file-system monitors).
"""

import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ebbtide.core.errors import (
    FloatingReference,
    NotRestorable,
    Refused,
    Unknown,
    Unreachable,
)

_TIMEOUT = 30.0
_HASH = re.compile(r"[0-9a-fA-F]{7,64}")
_NAME = re.compile(r"(?!.*\.\.)(@|[A-Za-z0-9_][A-Za-z0-9._/-]*)([~^][0-9]*)*")
_SAFE = (
    "--no-pager",
    "--literal-pathspecs",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.quotePath=false",
    "-c",
    "protocol.allow=never",
)


class GitError(Refused):
    """git has refused a command."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a commit's tree. `path` is relative to the folder that was asked for."""

    mode: str
    blob: str
    path: str


class Repository:
    """One git repository, read through its command line.

    No system or global configuration, no prompt, no network, no hook, English
    messages. Raises `Unreachable` where git, the folder or an answer within 30
    seconds is missing, `GitError` where git says no.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, feed: bytes | None = None) -> bytes:
        """What a git command prints. Put what others wrote behind `--end-of-options`."""
        return self._run(arguments, feed, environment(), _TIMEOUT)

    def _run(
        self,
        arguments: Sequence[str],
        feed: bytes | None,
        environment: Mapping[str, str],
        timeout: float,
    ) -> bytes:
        if not self.folder.is_dir():
            raise Unreachable(
                f"The repository {self.folder} is not there.",
                remedy="Mount or clone it, or correct `repository` in the system file.",
            )
        command = ["git", *_SAFE, "-C", str(self.folder), *arguments]
        try:
            ended = subprocess.run(
                command,
                input=feed if feed is not None else b"",
                capture_output=True,
                timeout=timeout,
                env=environment,
                check=False,
            )
        except FileNotFoundError as fault:
            raise Unreachable("git is not installed.", remedy="Install git.") from fault
        except (subprocess.TimeoutExpired, OSError) as fault:
            raise Unreachable(
                f"git {_verb(arguments)} in {self.folder} failed: {fault}."
            ) from fault
        if ended.returncode:
            said = ended.stderr.decode(errors="replace").strip()
            if "not a git repository" in said or "dubious ownership" in said:
                raise Unreachable(f"{self.folder} cannot be read by git: {said}")
            raise GitError(f"git {_verb(arguments)} in {self.folder}: {said or 'refused'}")
        return ended.stdout

    def head(self) -> str:
        """The commit that is checked out, in full. Raises `Unknown` where there is none yet."""
        found = self._commit("HEAD")
        if not found:
            raise Unknown(f"{self.folder} has no commit yet.", remedy="Commit, then try again.")
        return found

    def commit(self, ask: str) -> str:
        """The full hash of a commit that is asked for by 7 or more hex digits.

        Raises `FloatingReference` for a branch, a tag or anything else that can
        move, `Unknown` where there is no such commit or the digits fit several.
        """
        found = self._commit(ask) if _HASH.fullmatch(ask) or _NAME.fullmatch(ask) else ""
        if _HASH.fullmatch(ask):
            if found.startswith(ask.lower()):
                return found
            if not found:
                raise Unknown(
                    f"No one commit `{ask}` in {self.folder}.",
                    remedy="Fetch it, or give all digits of its hash.",
                )
        raise FloatingReference(
            f"`{ask}` is no pin: it can lead to another commit tomorrow.",
            remedy=f"Today it is {found}: ask for that." if found else "Ask for a commit's hash.",
        )

    def has(self, commit: str) -> bool:
        """Whether a commit is here, by its full hash."""
        return bool(_HASH.fullmatch(commit)) and self._commit(commit) == commit

    def last_change(self, commit: str, *paths: str) -> str:
        """The newest commit up to `commit` that changed what is at or below a path, or empty."""
        said = self.run("log", "-1", "--format=%H", commit, "--", *paths)
        return said.decode("ascii").strip()

    def changes(self, commit: str, *paths: str) -> list[str]:
        """Every commit up to `commit` that changed one of these paths, newest first."""
        return self.run("log", "--format=%H", commit, "--", *paths).decode("ascii").split()

    def changed(self, path: str) -> list[str]:
        """Files at or below a path that differ from the last commit, new ones too."""
        said = self.run("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames",
                        "--ignore-submodules=none", "--", path)  # fmt: skip
        return sorted(os.fsdecode(line)[3:] for line in said.split(b"\0") if line)

    def entries(self, commit: str, path: str) -> list[Entry]:
        """Every file below a folder of a commit, as the commit has it.

        `path` is relative to this repository's folder. Raises `Unknown` where the
        commit has no such folder.
        """
        prefix = os.fsdecode(self.run("rev-parse", "--show-prefix")).strip("\n")
        where = (PurePosixPath(prefix) / path).as_posix()
        spec = f"{commit}:" if where == "." else f"{commit}:{where}"
        try:
            said = self.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", spec)
        except GitError as fault:
            raise Unknown(
                f"Commit {commit[:10]} of {self.folder} has no folder `{path}`.",
                remedy="Correct `path` in the system file, or choose another commit.",
            ) from fault
        return [_entry(line) for line in said.split(b"\0") if line]

    def contents(self, entries: Collection[Entry]) -> dict[str, bytes]:
        """The bytes of each entry by its path: no filter and no attribute is applied."""
        feed = "".join(f"{entry.blob}\n" for entry in entries).encode()
        said, found, start = self.run("cat-file", "--batch", feed=feed), {}, 0
        for entry in entries:
            end = said.index(b"\n", start)
            parts = said[start:end].split()
            if len(parts) != 3 or parts[1] != b"blob":
                raise NotRestorable(
                    f"{entry.path} ({entry.blob[:10]}) is missing in {self.folder}.",
                    remedy="Fetch the repository's objects: `git fsck` lists what is gone.",
                )
            size = int(parts[2])
            found[entry.path] = said[end + 1 : end + 1 + size]
            start = end + 2 + size
        return found

    def _commit(self, ref: str) -> str:
        try:
            said = self.run(
                "rev-parse",
                "--quiet",
                "--verify",
                "--end-of-options",
                f"{ref}^{{commit}}",
            )
        except GitError:
            return ""
        return said.decode().strip()


def _verb(arguments: Sequence[str]) -> str:
    """The command, behind the options that come before it."""
    options = sum(2 for argument in arguments if argument == "-c")
    return arguments[options]


def _entry(line: bytes) -> Entry:
    about, _, path = line.partition(b"\t")
    mode, _, blob = about.decode().split()
    return Entry(mode, blob, os.fsdecode(path))


def environment() -> Mapping[str, str]:
    """Without what a surrounding git command, a user or the host has set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PAGER": "cat",
        "LC_ALL": "C",
    }
