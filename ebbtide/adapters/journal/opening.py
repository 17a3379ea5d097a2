"""Bring the journal's schema up to date, once, however many processes open it."""

from pathlib import Path
from re import fullmatch

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.schema import HEAD
from ebbtide.core.errors import BadConfiguration

_LOCK = 0x65626274
"""PostgreSQL's advisory lock that first openings queue for ("ebbt")."""
_SCRIPTS = Path(__file__).parent / "migrations"


def bring_up_to_date(database: Database) -> None:
    """One query where nothing is to do; Alembic is imported only where something is.

    Raises `BadConfiguration` for a newer journal and for another application's database.
    """
    if _is_current(_revision(database), database):
        return
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Now that the lock is ours: another process may have been first.
        if _table_is_there(connection) and _is_current(_stamp(connection), database):
            return
        _upgrade(connection)


def _revision(database: Database) -> str:
    """The stamp in the database, empty where there is none."""
    with database.read() as connection:
        try:
            return _stamp(connection)
        except (OperationalError, ProgrammingError) as fault:
            if "alembic_version" in str(fault.orig):
                return ""
            raise


def _stamp(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")) or "")


def _table_is_there(connection: Connection) -> bool:
    return connection.dialect.has_table(connection, "alembic_version")


def _is_current(revision: str, database: Database) -> bool:
    """Raises `BadConfiguration` for a revision that this ebbtide must not touch."""
    if revision and not fullmatch(r"\d{4}", revision):
        raise BadConfiguration(
            f"The database {database.faults.shown} belongs to another application.",
            remedy="Give the journal a database of its own.",
        )
    if revision > HEAD:
        raise BadConfiguration(
            f"The journal {database.faults.shown} has schema {revision};"
            f" this ebbtide knows schemas up to {HEAD}.",
            remedy="Upgrade ebbtide.",
        )
    return revision == HEAD


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    command.upgrade(config, "head")
