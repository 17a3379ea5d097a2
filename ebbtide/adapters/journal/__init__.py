"""The journal on SQLAlchemy Core: SQLite embedded, PostgreSQL by URL."""

from ebbtide.adapters.journal.store import SqlJournal, open_journal

__all__ = ["SqlJournal", "open_journal"]
