"""A journal on each database, a reader beside it, and things to write into it."""

import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ebbtide.adapters.journal import SqlJournal, open_journal
from ebbtide.core.lease import Lease
from ebbtide.core.release import Evidence, Golden, Pin, Release, diff
from ebbtide.core.saga import Level, Phase, Plan, PlannedStep, Saga

SYSTEM = "ride-pricing"
SERVER = os.environ.get("EBBTIDE_TEST_POSTGRES", "postgresql://root@127.0.0.1:5432/postgres")
GOLDEN = Golden(({"zone": 4, "hour": 8},), (12.25,))

Sql = Callable[..., list[tuple[Any, ...]]]


@contextmanager
def database_of_its_own() -> Iterator[str | None]:
    """The URL of a PostgreSQL database for as long as the block; None where there is no server."""
    import psycopg

    try:
        server = psycopg.connect(SERVER, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        if os.environ.get("CI") == "true":
            raise
        yield None
        return
    name = f"ebbtide_test_{uuid.uuid4().hex}"
    with server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield SERVER.rpartition("/")[0] + f"/{name}"
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database that lives as long as the tests."""
    with database_of_its_own() as url:
        if url is None:
            pytest.skip(f"no PostgreSQL at {SERVER.rpartition('@')[2]}")
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a journal may be, and none is yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'journal.db'}"
    import psycopg

    database = request.getfixturevalue("postgres")
    schema = f"s{uuid.uuid4().hex}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return f"{database}?options=-csearch_path%3D{schema}"


@pytest.fixture
def journal(url: str) -> Iterator[SqlJournal]:
    opened = open_journal(url)
    yield opened
    opened.close()


@pytest.fixture
def sql(url: str) -> Sql:
    """Another hand on the same tables: the bare driver."""

    def on_sqlite(statement: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        try:
            with connection:
                return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def on_postgresql(statement: str) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(url) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return on_sqlite if url.startswith("sqlite") else on_postgresql


def a_release(version: str = "1", system: str = SYSTEM) -> Release:
    pin = Pin("demand", version.rjust(64, "0"), {"version": version})
    return Release(system, {"model": (pin,), "config": (Pin("surge", "c" * 64),)})


def recorded(journal: SqlJournal, *versions: str) -> list[Release]:
    releases = [a_release(version) for version in versions]
    for release in releases:
        journal.add_release(release, Evidence("ada", 0.0), None)
    return releases


def a_plan(journal: SqlJournal, target: Release, level: Level = Level.SYSTEM) -> Plan:
    """From wherever the route is to the target."""
    route = journal.route(target.system)
    source = journal.release(route.release) if route and route.release else None
    return Plan(
        system=target.system,
        level=level,
        source=source.id if source else "",
        target=target.id,
        epoch=route.epoch if route else 0,
        steps=(PlannedStep("route.switch", Phase.CUT_OVER, "", "Switch.", "Agree.", "Return."),),
        changes=diff(source, target),
    )


def opened(
    journal: SqlJournal, target: Release, level: Level = Level.SYSTEM, key: str = ""
) -> tuple[Saga, Lease]:
    return journal.open_saga(a_plan(journal, target, level), by="ada", reason="drill", key=key)


def same_imports() -> dict[str, str]:
    """An environment in which another Python finds what this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run_together(scripts: list[str], *arguments: str) -> list[str]:
    """Run scripts as processes that wait for each other, and what each printed last.

    A script calls `go()` once it is ready: all go on at the same time.
    """
    prelude = "import sys\ndef go():\n    print('ready', flush=True); sys.stdin.readline()\n"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", prelude + script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=same_imports(),
        )
        for script in scripts
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=60)[0].strip() for process in running]
