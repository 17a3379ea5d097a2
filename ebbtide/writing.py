"""For your own jobs: append to a table that ebbtide may have to restore.

    from ebbtide.writing import append, table_of

    append(table_of("shop-search", "clicks"), rows, run="clicks 2026-11-20")

An append never lands in a table whose writers are held back, and one that was
begun before is in the table's history or is rejected, never in between. The
same run twice appends once. A job that writes with another library is not held
back: Delta itself then keeps its commits, and a rollback that it gets in the
way of stops and names it.
"""

import getpass
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from ebbtide.adapters.delta.history import MARK as _MARK
from ebbtide.adapters.delta.history import RUN as _RUN
from ebbtide.adapters.delta.history import WRITER as _WRITER
from ebbtide.core.errors import Conflict, Held, Refused, Unknown, Unreachable

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

__all__ = ["append", "table_of"]

_EVERY = 0.1
"""Seconds between two looks at a fence."""
_ATTEMPTS = 10
"""Times that a change of the table's metadata may get in the way of one append."""


def table_of(system: str, name: str, systems: Path | str = "configs/systems") -> str:
    """Where a table of a system lies, as its system file has it: a path or a URI.

    Raises `Unknown`, `BadConfiguration`.
    """
    from ebbtide.adapters.system.file import find_system

    file = find_system(system, Path(systems))
    things = file.layers.data
    if name not in things:
        known = ", ".join(things) or "none"
        raise Unknown(f"{system} has no table `{name}`.", remedy=f"There are: {known}.")
    path = things[name].path
    return path if "://" in path else str(file.at(path))


def append(table: str | Path, rows: Any, *, run: str = "", wait: float = 60.0, by: str = "") -> int:
    """Append rows to a Delta table, all or none; the version that has them. Safe to repeat.

    `rows`: a table, a batch or a stream of Arrow data, such as a pandas or
    polars frame; a stream is read whole. Their columns are the table's.
    `run` names what is appended: the same run twice appends once, also from two
    processes at once. `wait`: seconds to wait while the writers are held back.
    `by`: who writes, for the table's history; empty: this user on this host.

    Raises `Held` where they still are after that time (temporary: try again),
    `Refused` where the rows do not fit the table or the run was left behind by a
    rollback, `Conflict` where others keep changing the table's metadata,
    `Unknown` where no table is there, `Unreachable`; then the rows may have been
    appended, which it says, and to name a `run` makes it safe to try again.
    """
    import pyarrow as pa

    try:
        content = pa.table(rows)
    except (TypeError, ValueError, pa.ArrowException) as fault:
        raise Refused(f"These rows are no Arrow data: {fault}") from fault
    named = {_MARK: secrets.token_hex(8), _WRITER: by or _who(), **({_RUN: run} if run else {})}
    deadline = monotonic() + wait
    for _ in range(_ATTEMPTS):
        with _reaching(str(table)):
            opened = _unheld(str(table), deadline)
            version = _appended_before(opened, run)
        if version is None:
            version = _commit(opened, _fitting(opened, content), named)
        if version is not None:
            _make_durable(opened, version)
            return version
    raise Conflict(
        f"The metadata of {table} was changed {_ATTEMPTS} times while these rows were appended.",
        remedy="Nothing was appended. Try again.",
    )


def _unheld(table: str, deadline: float) -> "DeltaTable":
    """The newest version of the table, which carries no fence. Raises `Held`."""
    from ebbtide.adapters.delta.fences import all_standing

    while True:
        opened = _open(table)
        standing = all_standing(opened)
        if not standing:
            return opened
        if monotonic() >= deadline:
            who = ", ".join(f"saga {saga} of {system}" for system, saga in standing.items())
            raise Held(
                f"The writers of {table} are held back by {who}.",
                remedy="Nothing was appended. Try again once that saga has ended: "
                "`ebbtide status` tells.",
            )
        sleep(_EVERY)


def _open(table: str) -> "DeltaTable":
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    from ebbtide.adapters.delta.versions import is_away, options, said

    try:
        return DeltaTable(table, storage_options=options(table))
    except DeltaError as fault:
        if is_away(fault):
            raise
        raise Unknown(f"{table} is no Delta table: {said(fault)}") from fault


@contextmanager
def _reaching(table: str) -> Iterator[None]:
    """Let a store that is away before anything is appended be `Unreachable`."""
    from deltalake.exceptions import DeltaError

    from ebbtide.adapters.delta.versions import is_away, said

    try:
        yield
    except (OSError, DeltaError) as fault:
        if not is_away(fault):
            raise
        raise Unreachable(
            f"{table} cannot be reached: {said(fault)}",
            remedy="Nothing was appended. Try again once its store is back.",
        ) from fault


def _appended_before(table: "DeltaTable", run: str) -> int | None:
    """The version by which the run was appended; None: it has not been. Raises `Refused`.

    A run that was appended and is not in the table any more was taken away by
    somebody on purpose: to put it back silently would undo their rollback.
    """
    from ebbtide.adapters.delta.history import Log

    if not run or table.transaction_version(_app(run)) is None:
        return None
    log, version = Log(table), table.version()
    for commit in log.back_from(version):
        if commit.run != run:
            continue
        if not log.grew_from(version, commit.version):
            raise Refused(
                f"Run `{run}` was appended as version {commit.version}, and a rollback of the "
                "table has left its rows behind.",
                remedy="Append them under another name where they belong into the table again.",
            )
        return commit.version
    return version  # its entry was cleaned up from the log: some version up to this one


def _fitting(table: "DeltaTable", rows: "pa.Table") -> "pa.Table":
    """The rows with exactly the table's columns and types. Raises `Refused`."""
    import pyarrow as pa

    schema = pa.schema(table.schema().to_arrow())
    differing = sorted(set(schema.names) ^ set(rows.column_names))
    if differing:
        raise Refused(
            f"These rows do not have the columns of {table.table_uri}: {', '.join(differing)}.",
            remedy=f"It has {', '.join(schema.names)}.",
        )
    try:
        return rows.select(schema.names).cast(schema)
    except (ValueError, pa.ArrowException) as fault:
        raise Refused(f"These rows do not fit {table.table_uri}: {fault}") from fault


def _commit(table: "DeltaTable", rows: Any, named: dict[str, str]) -> int | None:
    """One attempt; None where the metadata were changed meanwhile, or the run appended."""
    from deltalake import CommitProperties, PostCommitHookProperties, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    from ebbtide.adapters.delta.versions import refuse_away, said

    run, after = named.get(_RUN, ""), table.version() + 1
    try:
        write_deltalake(
            table,
            rows,
            mode="append",
            commit_properties=CommitProperties(
                dict(named), app_transactions=[Transaction(_app(run), 1)] if run else None
            ),
            # What an older release needs is not cleaned up in passing.
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
    except CommitFailedError:
        return _committed(table, named, after)
    except Exception as fault:  # deltalake raises bare ones too
        version = _committed(table, named, after)
        if version is None:
            with _reaching(table.table_uri):
                refuse_away(fault)
            kind = Unreachable if isinstance(fault, OSError) else Refused
            raise kind(f"{table.table_uri} was not appended to: {said(fault)}") from fault
        return version
    return _committed(table, named, after)


def _committed(table: "DeltaTable", named: dict[str, str], after: int) -> int | None:
    """The version that this very append became, read back; None: it never did.

    Raises `Unreachable` where nobody can tell.
    """
    from ebbtide.adapters.delta.history import Log
    from ebbtide.adapters.delta.versions import said

    try:
        commits = Log(table).on_from(after)
        return next((each.version for each in commits if each.mark == named[_MARK]), None)
    except OSError as fault:
        raise Unreachable(
            f"{table.table_uri} cannot be reached, so whether these rows were appended is not "
            f"known: {said(fault)}",
            remedy="Try again with the same `run` once its store is back: it appends once."
            if _RUN in named
            else "Look for them in the table once its store is back. With a `run` of its own an "
            "append is safe to repeat.",
        ) from fault


def _make_durable(table: "DeltaTable", version: int) -> None:
    """Sync what a local commit added, then the log: delta-rs itself syncs nothing."""
    from ebbtide.adapters.delta.history import Log, folder_of
    from ebbtide.adapters.delta.versions import make_durable

    folder = folder_of(table)
    if folder is None:
        return
    for path in Log(table).added(version):
        handle = os.open(folder / path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    make_durable(folder / "_delta_log")


def _app(run: str) -> str:
    return f"{_RUN}:{run}"


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
