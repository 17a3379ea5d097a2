"""The schema with the unique indexes that hold for some rows only.

Apart from the tables, and imported by migrations alone: to name an option of
PostgreSQL loads its dialect, which every command line would wait for.
"""

from sqlalchemy import Index, text

from ebbtide.adapters.journal.schema import METADATA, sagas, tenures

__all__ = ["METADATA"]

Index(
    "uq_sagas_open",
    sagas.c.system,
    unique=True,
    sqlite_where=text("state = 'open'"),
    postgresql_where=text("state = 'open'"),
)
Index(
    "uq_sagas_order_key",
    sagas.c.system,
    sagas.c.order_key,
    unique=True,
    sqlite_where=text("order_key <> ''"),
    postgresql_where=text("order_key <> ''"),
)
Index(
    "uq_tenures_running",
    tenures.c.system,
    unique=True,
    sqlite_where=text("until IS NULL"),
    postgresql_where=text("until IS NULL"),
)
