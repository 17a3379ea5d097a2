"""The journal's tables. `migrations/` makes them; a test holds the two together.

The unique indexes that hold for some rows only are in `indexes.py`.

Moments are whole microseconds since the epoch, so that both databases give back
exactly what was hashed into the audit trail. JSON is canonical text for the same
reason. An empty text means none, except where a column is nullable.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

HEAD = "0008"
"""The newest revision in `migrations/versions`: four digits, counted up."""

NOTHING_BEFORE = "0" * 64
"""What the first audit entry follows."""

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class micros(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """Microseconds since the epoch by the database's clock, at this statement."""

    inherit_cache = True
    type = BigInteger()


@compiles(micros, "sqlite")
def _micros_of_sqlite(*_: Any, **__: Any) -> str:
    # SQLite's clock counts milliseconds; unixepoch('subsec') is not in 3.40.
    return "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)"


@compiles(micros, "postgresql")
def _micros_of_postgresql(*_: Any, **__: Any) -> str:
    # clock_timestamp, not now(): the latter stands still within a transaction.
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"


def _words(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _maybe(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=True)


releases = Table(
    "releases",
    METADATA,
    Column("id", Text, primary_key=True),
    _words("system"),
    _words("manifest"),
    _words("evidence"),
    _number("entry"),  # the audit entry that recorded it: an order that no clock can upset
    Index(None, "system", "entry"),
)

snapshots = Table(
    "snapshots",
    METADATA,
    Column("release", ForeignKey("releases.id"), primary_key=True),
    _words("content"),
)

sagas = Table(
    "sagas",
    METADATA,
    Column("id", Text, primary_key=True),
    _words("system"),
    _words("level"),
    _words("source"),
    _words("target"),
    _number("epoch"),
    _words("state"),
    _words("plan"),
    _words("plan_digest"),
    _words("ordered_by"),
    _words("reason"),
    _words("order_key"),
    _number("opened_at"),
    _maybe("closed_at"),
    _words("why"),
    _words("remaining"),
    _words("holder"),
    _number("lease_epoch"),
    _number("lease_until"),
    _number("entry"),
    Index(None, "system", "entry"),
    # For the newest completed sagas of one level, whatever else there is.
    Index(None, "system", "level", "state", "entry"),
)

steps = Table(
    "steps",
    METADATA,
    Column("saga", ForeignKey("sagas.id"), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    _words("name"),
    _words("phase"),
    _words("remembered"),
    _number("intent_at"),
    _maybe("done_at"),
    _maybe("proved_at"),
    _words("verdict"),
    _words("why"),
    _words("measured"),
    _maybe("undo_intent_at"),
    _maybe("undone_at"),
    _words("undo_error"),
)

routes = Table(
    "routes",
    METADATA,
    Column("system", Text, primary_key=True),
    _words("release"),
    _number("epoch"),
    _words("token"),
    _words("candidate"),
    _words("saga"),
    _number("since"),
)

tenures = Table(
    "tenures",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("release", ForeignKey("releases.id"), nullable=False),
    Column("saga", ForeignKey("sagas.id"), nullable=False),
    _number("since"),
    _maybe("until"),
    Column("proved", Boolean, nullable=False),
)

quarantine = Table(
    "quarantine",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    _words("what"),
    _words("reason"),
    Column("saga", ForeignKey("sagas.id"), nullable=False),
    _number("at"),
)

fences = Table(
    "fences",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("name", Text, primary_key=True),  # of the table, as the system file has it
    Column("saga", ForeignKey("sagas.id"), nullable=False),
    _number("epoch"),
    _number("since"),
)

output_runs = Table(
    "output_runs",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("release", ForeignKey("releases.id"), nullable=False),
    _words("models"),
    _number("began_at"),
)

output_parts = Table(
    "output_parts",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("output", Text, primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    _words("release"),
    _words("models"),
    _number("begun_at"),
    _maybe("written_at"),
    _maybe("rows"),
    _maybe("version"),
    _words("replaced_by"),
    _words("recall"),
    Column("marked", Boolean, nullable=False),
    _number("entry"),
    # For the few that stand, among all that were ever written.
    Index(None, "system", "output", "replaced_by"),
)

output_recalls = Table(
    "output_recalls",
    METADATA,
    Column("id", Text, primary_key=True),
    _words("system"),
    _words("blame"),
    _words("by"),
    _words("reason"),
    _words("saga"),
    _number("at"),
    Index(None, "system", "at"),
)

output_reads = Table(
    "output_reads",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("output", Text, primary_key=True),
    Column("consumer", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    _words("content"),
    _number("first_at"),
    _number("last_at"),
)

effects = Table(
    "effects",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("release", ForeignKey("releases.id"), nullable=False),
    _words("kind"),
    _words("klass"),
    _words("payload"),
    _words("undo"),
    _words("undoes"),
    _words("saga"),
    _words("state"),
    _number("attempts"),
    Column("unsure", Boolean, nullable=False),
    _number("queued_at"),
    _number("due_at"),
    _maybe("sent_at"),
    _words("answer"),
    _words("why"),
    _words("claim"),
    _maybe("claimed_at"),
    _maybe("claim_until"),
    _number("entry"),
    _number("place"),  # among those that one entry queued
    # For the few that have yet to be sent, among all that ever were.
    Index(None, "system", "state", "entry", "place"),
    Index(None, "system", "saga"),
    Index(None, "system", "release"),
)

effect_holds = Table(
    "effect_holds",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("saga", ForeignKey("sagas.id"), nullable=False),
    _number("since"),
)

given_up = Table(
    "given_up",
    METADATA,
    Column("release", ForeignKey("releases.id"), primary_key=True),
    _words("system"),
    _number("at"),
)

debts = Table(
    "debts",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("layer", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("saga", ForeignKey("sagas.id"), nullable=False),
    _number("since"),
    _words("why"),
)

replicas = Table(
    "replicas",
    METADATA,
    Column("system", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    _words("url"),
    _words("release"),
    _number("epoch"),
    _words("loaded"),
    _words("refused"),
    _number("seen_at"),
    # A replica of an older ebbtide, beside newer ones, reports none.
    Column("token", Text, nullable=False, server_default=""),
)

audit = Table(
    "audit",
    METADATA,
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    _number("at"),
    _words("system"),
    _words("who"),
    _words("what"),
    _words("saga"),
    _words("detail"),
    _words("previous"),
    _words("digest"),
    Index(None, "system", "n"),
)

audit_head = Table(
    "audit_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _number("entries"),
    _words("digest"),
    CheckConstraint("id = 1", name="one_row"),
)
"""How many audit entries there are and the last one's digest: a cut tail shows."""
