"""A bare clone of ebbtide's own: reads a remote branch, and adds commits at its tip.

The user's checkout is never touched, history is never rewritten, and what was
once fetched is never collected: a pinned commit stays even where the remote
has lost it. A push is a compare-and-set of the branch, and a fast-forward.
"""

import os
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from ebbtide.adapters.disk.files import locked
from ebbtide.adapters.git.repository import Entry, GitError, Repository, environment
from ebbtide.core.errors import BadConfiguration, Refused, Unknown, Unreachable

_REMOTE_WITHIN = 120.0
"""Seconds for one exchange with the remote."""
_ALLOWED = ("https", "http", "ssh", "file")
_KEPT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_SSL_CAINFO")
_URL = re.compile(rf"({'|'.join(_ALLOWED)})://[^\s-][^\s]*")
_SCP = re.compile(r"[A-Za-z0-9_.]+@[A-Za-z0-9_.][A-Za-z0-9_.-]*:[^\s:-][^\s:]*")
_FILE_MODES = ("100644", "100755")


def is_url(repository: str) -> bool:
    """Whether git reaches it over a network (or by `file://`); else it is a path.

    Raises `BadConfiguration` for what git would take for an option or a helper.
    """
    if _URL.fullmatch(repository) or _SCP.fullmatch(repository):
        return True
    odd = repository.startswith("-") or "::" in repository or "://" in repository
    if odd or not repository.strip() or any(ord(sign) < 32 for sign in repository):
        raise BadConfiguration(
            f"`{repository}` is no repository that can be cloned.",
            remedy=f"Write a path, or a URL with {', '.join(_ALLOWED)}.",
        )
    return False


class Clone(Repository):
    """One remote branch, and how to add to it. Raises `Unreachable` where the remote is away."""

    def __init__(self, folder: Path, remote: str, branch: str) -> None:
        super().__init__(folder)
        self._remote = remote
        self._branch = branch

    def fetch(self) -> str:
        """The commit at the branch's tip now. Raises `Unknown` where there is no such branch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ref = f"refs/tips/{self._branch}"
        with locked(self.folder):
            if not (self.folder / "HEAD").exists():
                self.run("init", "--quiet", "--bare")
            try:
                self._far(
                    "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc",
                    "--end-of-options", self._remote, f"+refs/heads/{self._branch}:{ref}",
                )  # fmt: skip
            except GitError as fault:
                if "couldn't find remote ref" in fault.message:
                    raise Unknown(f"The remote has no branch `{self._branch}`.") from fault
                raise Unreachable(f"The manifest repository is away: {fault.message}") from fault
            return self.run("rev-parse", "--verify", ref).decode().strip()

    def push(self, commit: str, *, only_from: str) -> None:
        """Let the branch be at that commit, where its tip is `only_from`, an ancestor.

        A plain push would also land where the branch was forced back meanwhile, and bring
        back what was taken away. The lease alone would also force, hence the look before.
        Raises `GitError` where the tip is another by now, or the remote says no.
        """
        self.run("merge-base", "--is-ancestor", only_from, commit)
        ref = f"refs/heads/{self._branch}"
        self._far(
            "push", "--quiet", "--no-verify", f"--force-with-lease={ref}:{only_from}",
            "--end-of-options", self._remote, f"{commit}:{ref}",
        )  # fmt: skip

    def files(self, commit: str, paths: Collection[str]) -> dict[str, bytes]:
        """The bytes of those of the files that a commit has. Raises `Refused` for links."""
        entries = self._entries(commit, paths)
        return self.contents(entries) if entries else {}

    def last_commit(self, commit: str, paths: Collection[str]) -> tuple[str, str]:
        """The newest commit up to `commit` that changed one of the files, and its message."""
        said = self.run("log", "-1", "--format=%H%n%B", commit, "--", *paths).decode(
            errors="replace"
        )
        found, _, message = said.partition("\n")
        return found, message

    def commit_files(self, tip: str, files: Mapping[str, bytes | None], message: str) -> str:
        """A new commit on `tip` with those files' contents; None: the file is not there."""
        modes = {entry.path: entry.mode for entry in self._entries(tip, files)}
        lines = b"".join(
            b"0 " + b"0" * len(tip) + b"\t" + os.fsencode(path) + b"\0"
            if content is None
            else f"{modes.get(path, '100644')} {self._blob(content)}\t".encode()
            + os.fsencode(path)
            + b"\0"
            for path, content in files.items()
        )
        with tempfile.TemporaryDirectory(prefix="index.", dir=self.folder) as aside:
            index = {**environment(), "GIT_INDEX_FILE": str(Path(aside) / "index")}

            def git(*arguments: str, feed: bytes = b"") -> str:
                return self._run(arguments, feed, index, _REMOTE_WITHIN).decode().strip()

            git("read-tree", "--end-of-options", tip)
            git("update-index", "-z", "--index-info", feed=lines)
            tree = git("write-tree")
        who = ("-c", "user.name=ebbtide", "-c", "user.email=ebbtide@localhost")
        made = self.run(*who, "commit-tree", tree, "-p", tip, "-F", "-", feed=message.encode())
        return made.decode().strip()

    def _blob(self, content: bytes) -> str:
        made = self.run("hash-object", "-w", "--no-filters", "--stdin", feed=content)
        return made.decode().strip()

    def _entries(self, commit: str, paths: Collection[str]) -> list[Entry]:
        said = self.run("ls-tree", "-z", "--full-tree", commit, "--", *paths)
        found = []
        for line in said.split(b"\0")[:-1]:
            about, _, path = line.partition(b"\t")
            mode, _, blob = about.decode().split()
            if mode not in _FILE_MODES:
                raise Refused(f"{os.fsdecode(path)} is a folder, a link or a submodule, no file.")
            found.append(Entry(mode, blob, os.fsdecode(path)))
        return found

    def _far(self, *arguments: str) -> None:
        """With the user's own git configuration: that is where credentials come from."""
        allowed = [f"protocol.{name}.allow=always" for name in _ALLOWED]
        options = [part for option in (*allowed, "gc.auto=0") for part in ("-c", option)]
        hidden = ("GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL")
        mine = {key: value for key, value in environment().items() if key not in hidden}
        users = {key: os.environ[key] for key in _KEPT if key in os.environ}
        self._run((*options, *arguments), None, mine | users, _REMOTE_WITHIN)
