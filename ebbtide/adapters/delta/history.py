"""What a table's own log says: who committed what, when, and what a version grew from.

The commits are read one by one as the JSON that they are. `DeltaTable.history()`
numbers them down from the version that was opened, so that it is wrong for an
older version and wherever somebody commits meanwhile (deltalake 1.6.6). File
times are not looked at: a copy or a touch changes them.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ebbtide.core.dating import Dated
from ebbtide.core.errors import NotRestorable, Refused

if TYPE_CHECKING:
    from deltalake import DeltaTable

SAGA = "ebbtide.saga"
"""Names the saga in the commits that ebbtide makes."""
WRITER = "ebbtide.writer"
"""Names who appended, in the commits of `ebbtide.writing`."""
RUN = "ebbtide.run"
"""Names what was appended there: the same run twice appends once."""
MARK = "ebbtide.commit"
"""Tells one append there from all others."""

_LOOK_BACK = 20
_CHANGES = re.compile(r'"dataChange"\s*:\s*true')
_RESTORED = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit as its log entry tells it."""

    version: int
    at: float | None
    """Seconds since the epoch, by the writer's clock; None where it does not say."""
    operation: str
    writer: str
    saga: str
    """The saga that made it; empty where somebody else did."""
    changes_rows: bool
    restored: int | None = None
    """The version whose content it brought back."""
    run: str = ""
    mark: str = ""

    @property
    def grew_from(self) -> int:
        """The version whose rows this one has, and more."""
        return self.version - 1 if self.restored is None else self.restored


class Log:
    """The log of a table, whichever version of it was opened."""

    def __init__(self, table: "DeltaTable") -> None:
        self._table = table
        self._folder = folder_of(table)

    def commit(self, version: int) -> Commit | None:
        """One commit; None where its entry is not there: cleaned up, or never written."""
        lines = self._read(f"_delta_log/{version:020}.json")
        if lines is None:
            return None
        try:
            infos = [json.loads(line)["commitInfo"] for line in lines if '"commitInfo"' in line]
        except (ValueError, KeyError) as fault:
            raise NotRestorable(
                f"Version {version} of {self._table.table_uri} has a log entry that cannot be read."
            ) from fault
        changes = any(_CHANGES.search(line) for line in lines)
        return _commit(version, infos[0] if infos else {}, changes)

    def back_from(self, version: int) -> Iterator[Commit]:
        """The commits from a version down, for as long as their entries are there."""
        while version >= 0 and (found := self.commit(version)) is not None:
            yield found
            version -= 1

    def on_from(self, version: int) -> Iterator[Commit]:
        """The commits from a version on."""
        while (found := self.commit(version)) is not None:
            yield found
            version += 1

    def grew_from(self, version: int, earlier: int) -> bool:
        """Whether what was committed as `earlier` is part of `version`, and not restored away."""
        while version > earlier and (commit := self.commit(version)) is not None:
            version = commit.grew_from
        return version == earlier

    def added(self, version: int) -> list[str]:
        """The data files that a commit added, relative to the table."""
        lines = self._read(f"_delta_log/{version:020}.json") or []
        adds = [json.loads(line)["add"] for line in lines if line.startswith('{"add"')]
        return [unquote(add["path"]) for add in adds]

    def restored_by(self, names: Collection[str], since: int) -> str | None:
        """Which of these made the newest of their restores after a version; empty: none did.

        None where that cannot be told, for the log was cleaned up.
        """
        for commit in self.back_from(self._table.version()):
            if commit.version <= since:
                return ""
            if commit.restored is not None and commit.saga in names:
                return commit.saga
        return None

    def newer(self, before: int, after: int) -> list[Commit]:
        """What `before` grew from that `after` did not, oldest first.

        A restored version grew from the one that it brought back, not from the
        one before it. What was cleaned up from the log is left out.
        """
        found, old = [], after
        while before != old and before >= 0:
            commit = self.commit(max(before, old))
            if commit is None:
                break
            if before > old:
                found.append(commit)
                before = commit.grew_from
            else:
                old = commit.grew_from
        return found[::-1]

    def dated(self, name: str, moment: float) -> Dated:
        """The version that was newest at that moment. Raises `Refused`, `NotRestorable`.

        By the commits' own times. Refused where they cannot decide: before the
        first commit, where one has no time, where clocks disagree.
        """
        commits = self.back_from(self._table.version())
        oldest = None
        for commit in commits:
            oldest = commit
            if _time(name, commit) <= moment:
                _refuse_disagreement(name, moment, commit, commits)
                return Dated(name, commit.version, _time(name, commit))
        raise self._before_it_all(name, oldest)

    def _before_it_all(self, name: str, oldest: Commit | None) -> Exception:
        if oldest is not None and oldest.version > 0:
            return NotRestorable(
                f"The log of table `{name}` begins at version {oldest.version}, which is after "
                "that date: what was before it was cleaned up.",
                remedy="Choose a later date or a version by its number.",
            )
        return Refused(
            f"That date is before the first commit of table `{name}`.",
            remedy="Choose a later date, or a version by its number.",
        )

    def _read(self, path: str) -> list[str] | None:
        try:
            return self._bytes(path).decode().splitlines()
        except FileNotFoundError:
            return None

    def _bytes(self, path: str) -> bytes:
        if self._folder is not None:
            return (self._folder / path).read_bytes()
        with store_of(self._table).open_input_file(path) as file:
            content: bytes = file.read()
            return content


def others_since(table: "DeltaTable") -> str:
    """Who committed after ebbtide's own newest commit, in a sentence; empty: nobody."""
    found: list[Commit] = []
    for commit in Log(table).back_from(table.version()):
        if commit.saga or len(found) == _LOOK_BACK:
            break
        found.append(commit)
    if not found:
        return ""
    counted = Counter((commit.writer, commit.operation) for commit in found)
    who = "; ".join(f"{writer}: {n} x {what}" for (writer, what), n in counted.most_common())
    return f"The last {len(found)} commits, up to version {table.version()}{_rate(found)}: {who}."


def folder_of(table: "DeltaTable") -> Path | None:
    """Where a local table lies; None for one in an object store."""
    uri = urlsplit(table.table_uri)
    if uri.scheme not in ("", "file"):
        return None
    return Path(unquote(uri.path) if uri.scheme else table.table_uri)


def store_of(table: "DeltaTable") -> Any:
    """The table's folder as pyarrow sees a file system."""
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import PyFileSystem

    return PyFileSystem(DeltaStorageHandler.from_table(table._table))  # noqa: SLF001 - no public way


def _commit(version: int, info: dict[str, Any], changes: bool) -> Commit:
    moment = info.get("inCommitTimestamp", info.get("timestamp"))
    operation = str(info.get("operation", "unknown operation"))
    asked = _RESTORED.fullmatch(str((info.get("operationParameters") or {}).get("version", "")))
    return Commit(
        version=version,
        at=moment / 1000 if isinstance(moment, int) else None,
        operation=operation,
        writer=_writer(info),
        saga=str(info.get(SAGA, "")),
        changes_rows=changes,
        restored=int(asked[0]) if asked and operation == "RESTORE" else None,
        run=str(info.get(RUN, "")),
        mark=str(info.get(MARK, "")),
    )


def _writer(info: dict[str, Any]) -> str:
    if info.get(SAGA):
        return f"ebbtide saga {info[SAGA]}"
    engine = str(info.get("engineInfo") or info.get("clientVersion") or "an unknown engine")
    who = str(info.get(WRITER) or info.get("userName") or "")
    return f"{who} ({engine})" if who else engine


def _time(name: str, commit: Commit) -> float:
    if commit.at is None:
        raise Refused(
            f"Version {commit.version} of table `{name}` does not say when it was committed.",
            remedy="Name a version by its number.",
        )
    return commit.at


def _refuse_disagreement(name: str, moment: float, found: Commit, older: Iterator[Commit]) -> None:
    for _, commit in zip(range(_LOOK_BACK), older, strict=False):
        if commit.at is not None and commit.at > moment:
            raise Refused(
                f"The clocks of the writers of table `{name}` disagree about that date: version "
                f"{commit.version} says that it is later than version {found.version}.",
                remedy="Name a version by its number.",
            )


def _rate(commits: list[Commit]) -> str:
    times = [commit.at for commit in commits if commit.at is not None]
    seconds = max(times) - min(times) if len(times) > 1 else 0.0
    return f" ({len(commits) / seconds:.1f} a second)" if seconds > 0 else ""
