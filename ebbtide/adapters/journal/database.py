"""One database as the journal needs it: durable, fenced writes; consistent reads."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from ebbtide.adapters.journal.faults import Faults
from ebbtide.core.errors import BadConfiguration, Unreachable

_PATIENCE = 10.0
"""Seconds to wait for another writer's lock."""
_CONNECT_WITHIN = 5
"""Seconds to wait for a PostgreSQL server."""
_HELP = "Write `journal` as `sqlite:////absolute/path.db` or `postgresql://user@host/name`."
_POSTGRESQL = {"postgresql", "postgres"}


class Database:
    """Transactions on the journal's database. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.url = _understood(url)
        self.faults = Faults.of(self.url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        with self.faults.translated():
            self._engine = self._sqlite() if self.is_sqlite else self._postgresql()
        self._writer = self._engine.execution_options(writes=True)
        self._snapshot = self._engine.execution_options(
            **({} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"})
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: all its statements see one state."""
        with self.faults.translated(), self._snapshot.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is on disk at its end, or has not happened."""
        with self.faults.translated(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    def _sqlite(self) -> Engine:
        _make_file(Path(str(self.url.database)), self.faults.shown)
        engine = create_engine(self.url, connect_args={"timeout": _PATIENCE}, hide_parameters=True)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _postgresql(self) -> Engine:
        try:
            engine = create_engine(
                self.url,
                connect_args={"connect_timeout": _CONNECT_WITHIN}
                if "connect_timeout" not in self.url.query
                else {},
                hide_parameters=True,
                isolation_level="READ COMMITTED",
                pool_pre_ping=True,
            )
        except ImportError as fault:
            raise BadConfiguration(
                f"A journal on PostgreSQL needs a driver: {fault}.",
                remedy="Install `ebbtide[postgres]`.",
            ) from fault
        event.listen(engine, "connect", _set_up_postgresql)
        return engine


def _understood(url: str) -> URL:
    try:
        made = make_url(url)
        backend = made.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        # `from None`: the text of a URL may hold a password.
        raise BadConfiguration("The journal's URL cannot be read.", remedy=_HELP) from None
    if backend in _POSTGRESQL:
        plain = made.drivername in _POSTGRESQL
        return made.set(drivername="postgresql+psycopg") if plain else made
    if backend != "sqlite":
        raise BadConfiguration(f"The journal cannot live in `{backend}`.", remedy=_HELP)
    if not made.database or made.database == ":memory:" or made.database.startswith("file:"):
        raise BadConfiguration("The journal needs a file that outlives the process.", remedy=_HELP)
    return made


def _make_file(path: Path, shown: str) -> None:
    """Create it for this user alone; SQLite gives its side files the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only where it is not there: closing a file gives up all locks that this process
        # holds on it, and SQLite in another process would take the journal for unused.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o600))
    except FileExistsError:
        return
    except OSError as fault:
        raise Unreachable(
            f"The journal {shown} cannot be opened: {fault.strerror}.",
            remedy="Check that its folder can be written by this user.",
        ) from fault


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin or commit by itself: `_begin_sqlite` does.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    _write_ahead(connection)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for this lock by itself where two switch at once."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as fault:
            busy = fault.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock first: a read that turns into a write
    # later would fail at once where another process wrote in between.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    before, connection.autocommit = connection.autocommit, True
    connection.execute(
        "SELECT set_config('lock_timeout', %s, false),"
        " set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
        " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)",
        [f"{_PATIENCE:.0f}s"],
    )
    connection.autocommit = before
