"""Opening a journal: made once, never half, and refused where it cannot be trusted."""

import re
import sqlite3
import stat
import subprocess
import sys
import time
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from ebbtide.adapters.journal import SqlJournal, database, open_journal
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.indexes import METADATA
from ebbtide.adapters.journal.schema import HEAD
from ebbtide.core.errors import BadConfiguration, Tampered, Unreachable
from ebbtide.core.release import Evidence
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    SYSTEM,
    Sql,
    a_release,
    journal,
    postgres,
    recorded,
    run_together,
    same_imports,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

_FIRST = """
from ebbtide.adapters.journal import open_journal
from ebbtide.core.release import Evidence
from tests.integration.journal_fixtures import a_release
import os
go()
journal = open_journal(sys.argv[1])
journal.add_release(a_release(str(os.getpid())), Evidence("ada", 0.0), None)
print(journal.verify())
"""


def test_four_processes_may_be_the_first_to_open_it(url: str, sql: Sql) -> None:
    assert run_together([_FIRST] * 4, url) == ["[]"] * 4
    assert sql("SELECT count(*) FROM releases") == [(4,)]
    assert sql("SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_the_migrations_make_exactly_the_tables_of_the_schema(
    journal: SqlJournal, url: str
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with closing(Database(url)) as opened, opened.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_the_migrations_write_the_very_statements_of_the_schema(tmp_path: Path) -> None:
    # Alembic's comparison does not look at checks nor at an index's condition.
    open_journal(f"sqlite:///{tmp_path / 'a.db'}").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'b.db'}")
    METADATA.create_all(engine)
    engine.dispose()

    def statements(path: Path) -> set[str]:
        connection = sqlite3.connect(path)
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
        found = {_words(row[0]) for row in connection.execute(query)}
        connection.close()
        return found

    assert statements(tmp_path / "a.db") == statements(tmp_path / "b.db")


def _words(statement: str) -> str:
    """The order of constraints in a table does not matter."""
    parts = re.split(r",\s*(?![^(]*\))", " ".join(statement.split()).rstrip(" )"))
    return " | ".join([parts[0], *sorted(part.strip() for part in parts[1:])])


_OPENED = """
import sys
from ebbtide.adapters.journal import open_journal
open_journal(sys.argv[1]).close()
print("alembic" in sys.modules)
"""


def test_opening_again_needs_no_alembic(journal: SqlJournal, url: str) -> None:
    command = [sys.executable, "-c", _OPENED, url]
    told = subprocess.run(command, env=same_imports(), capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_what_was_written_is_there_when_it_is_opened_again(journal: SqlJournal, url: str) -> None:
    (release,) = recorded(journal, "1")
    again = open_journal(url)
    assert again.release(release.id) == release
    again.close()


def test_the_clock_is_the_databases(journal: SqlJournal) -> None:
    first, mine, second = journal.now(), time.time(), journal.now()
    assert first <= second
    assert first == pytest.approx(mine, abs=1)


def test_a_newer_journal_is_refused(journal: SqlJournal, url: str, sql: Sql) -> None:
    sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadConfiguration, match="9999") as caught:
        open_journal(url)
    assert "Upgrade ebbtide" in caught.value.remedy


def test_another_applications_database_is_left_alone(url: str, sql: Sql) -> None:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    sql("INSERT INTO alembic_version VALUES ('b8d1a2c3e4f5')")
    with pytest.raises(BadConfiguration, match="another application"):
        open_journal(url)
    with pytest.raises(Exception, match="releases"):
        sql("SELECT * FROM releases")


def test_a_lost_table_is_tampering(journal: SqlJournal, sql: Sql) -> None:
    sql("DROP TABLE replicas")
    with pytest.raises(Tampered, match="replicas"):
        journal.replicas(SYSTEM, within=5)


UNUSABLE = [
    "",
    "journal.db",
    "sqlite://",
    "sqlite:///:memory:",
    "mysql://root@localhost/x",
    "nonsense://x",
    "postgresql://user:s3cret@host:port/x",
]


@pytest.mark.parametrize("given", UNUSABLE)
def test_a_url_that_cannot_be_a_journal_is_refused(given: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        open_journal(given)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


AWAY = [
    "postgresql://ada:s3cret@127.0.0.1:1/journal",
    "postgresql://ada@127.0.0.1:1/journal?password=s3cret",
    "postgresql+psycopg://ada:s3cret@127.0.0.1:1/journal?sslmode=nonsense",
]


@pytest.mark.parametrize("given", AWAY)
def test_a_server_that_is_away_is_named_without_its_password(given: str) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1") as caught:
        open_journal(given)
    assert caught.value.remedy
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


# SQLite's file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A journal with a release in it, closed."""
    path = tmp_path / "state" / "journal.db"
    opened = open_journal(f"sqlite:///{path}")
    opened.add_release(a_release(), Evidence("ada", 0.0), None)
    opened.close()
    return path


def test_the_file_is_this_users_alone_and_written_ahead(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    with closing(Database(f"sqlite:///{file}")) as opened, opened.write() as writer:
        assert writer.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert writer.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_file_that_is_no_journal_is_tampering(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(Tampered, match=r"journal\.db"):
        open_journal(f"sqlite:///{path}")
    assert path.read_text().startswith("Dear diary")


@pytest.mark.parametrize("kept", [100, 4096, 20480, -4096])
def test_a_truncated_file_is_tampering(file: Path, kept: int) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:kept])
    with pytest.raises(Tampered):
        _use(file)


def test_flipped_bytes_are_found(file: Path) -> None:
    content = bytearray(file.read_bytes())
    place = content.index(b"surge")
    content[place : place + 5] = b"merge"
    file.write_bytes(content)
    journal = open_journal(f"sqlite:///{file}")
    assert any("manifest" in problem for problem in journal.verify())
    journal.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "journal.db", tmp_path):
        with pytest.raises(Unreachable, match=re.escape(str(place))):
            open_journal(f"sqlite:///{place}")


def test_a_lock_that_is_not_given_up_is_no_endless_wait(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 0.05)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    journal = open_journal(f"sqlite:///{file}")
    assert len(journal.releases(SYSTEM)) == 1
    with pytest.raises(Unreachable, match="locked"):
        journal.add_release(a_release("2"), Evidence("ada", 0.0), None)
    other.execute("ROLLBACK")
    journal.add_release(a_release("2"), Evidence("ada", 0.0), None)
    journal.close()
    other.close()


_FULL = """
import resource, signal, sys
from ebbtide.adapters.journal import open_journal
from ebbtide.core.errors import Unreachable
from ebbtide.core.release import Evidence
from tests.integration.journal_fixtures import a_release
journal = open_journal(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    journal.add_release(a_release("2"), Evidence("ada", 0.0, note="x" * 100_000), None)
except Unreachable as fault:
    print(len(journal.releases("ride-pricing")), fault)
"""


def test_a_full_disk_refuses_the_write_and_keeps_the_rest(file: Path) -> None:
    command = [sys.executable, "-c", _FULL, f"sqlite:///{file}"]
    told = subprocess.run(command, env=same_imports(), capture_output=True, text=True, check=True)
    assert told.stdout.startswith("1 The journal sqlite:///")
    journal = open_journal(f"sqlite:///{file}")
    assert len(journal.releases(SYSTEM)) == 1
    assert journal.verify() == []
    journal.close()


def _use(file: Path) -> None:
    journal = open_journal(f"sqlite:///{file}")
    try:
        journal.releases(SYSTEM)
        found = journal.verify()
    finally:
        journal.close()
    if found:
        raise Tampered(found[0])


def test_opening_it_again_gives_up_no_lock_of_this_process(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = open_journal(f"sqlite:///{path}")
    first.now()
    open_journal(f"sqlite:///{path}").close()
    code = f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('SELECT * FROM routes')"
    subprocess.run([sys.executable, "-c", code + ".fetchall(); c.close()"], check=True)
    # Who closes a database last takes its log away: the other process was not the last.
    assert path.with_name("journal.db-wal").exists()
    first.close()
