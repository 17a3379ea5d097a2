"""The journal's first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _words(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _maybe(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=True)


def upgrade() -> None:
    _releases()
    _sagas()
    _routes()
    _replicas()
    _audit()


def downgrade() -> None:
    """A journal never goes back: it would forget what happened."""
    raise NotImplementedError("The journal's schema is never downgraded.")


def _releases() -> None:
    op.create_table(
        "releases",
        _words("id"),
        _words("system"),
        _words("manifest"),
        _words("evidence"),
        _number("entry"),
        sa.PrimaryKeyConstraint("id", name="pk_releases"),
    )
    op.create_index("ix_releases_system_entry", "releases", ["system", "entry"])
    op.create_table(
        "snapshots",
        _words("release"),
        _words("content"),
        sa.PrimaryKeyConstraint("release", name="pk_snapshots"),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name="fk_snapshots_release"),
    )


def _sagas() -> None:
    op.create_table(
        "sagas",
        *map(_words, ("id", "system", "level", "source", "target")),
        _number("epoch"),
        *map(
            _words,
            ("state", "plan", "plan_digest", "ordered_by", "reason", "order_key"),
        ),
        _number("opened_at"),
        _maybe("closed_at"),
        *map(_words, ("why", "remaining", "holder")),
        *map(_number, ("lease_epoch", "lease_until", "entry")),
        sa.PrimaryKeyConstraint("id", name="pk_sagas"),
    )
    op.create_index("ix_sagas_system_entry", "sagas", ["system", "entry"])
    _unique_where("uq_sagas_open", "sagas", ["system"], "state = 'open'")
    _unique_where("uq_sagas_order_key", "sagas", ["system", "order_key"], "order_key <> ''")
    op.create_table(
        "steps",
        _words("saga"),
        sa.Column("n", sa.Integer(), nullable=False, autoincrement=False),
        *map(_words, ("name", "phase", "remembered")),
        _number("intent_at"),
        *map(_maybe, ("done_at", "proved_at")),
        *map(_words, ("verdict", "why", "measured")),
        *map(_maybe, ("undo_intent_at", "undone_at")),
        _words("undo_error"),
        sa.PrimaryKeyConstraint("saga", "n", name="pk_steps"),
        sa.ForeignKeyConstraint(["saga"], ["sagas.id"], name="fk_steps_saga"),
    )


def _routes() -> None:
    op.create_table(
        "routes",
        *map(_words, ("system", "release")),
        _number("epoch"),
        *map(_words, ("token", "candidate", "saga")),
        _number("since"),
        sa.PrimaryKeyConstraint("system", name="pk_routes"),
    )
    op.create_table(
        "tenures",
        _words("system"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        *map(_words, ("release", "saga")),
        _number("since"),
        _maybe("until"),
        sa.Column("proved", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("system", "epoch", name="pk_tenures"),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name="fk_tenures_release"),
        sa.ForeignKeyConstraint(["saga"], ["sagas.id"], name="fk_tenures_saga"),
    )
    _unique_where("uq_tenures_running", "tenures", ["system"], "until IS NULL")
    op.create_table(
        "quarantine",
        *map(_words, ("system", "digest", "what", "reason", "saga")),
        _number("at"),
        sa.PrimaryKeyConstraint("system", "digest", name="pk_quarantine"),
        sa.ForeignKeyConstraint(["saga"], ["sagas.id"], name="fk_quarantine_saga"),
    )


def _replicas() -> None:
    op.create_table(
        "replicas",
        *map(_words, ("system", "name", "url", "release")),
        _number("epoch"),
        *map(_words, ("loaded", "refused")),
        _number("seen_at"),
        sa.PrimaryKeyConstraint("system", "name", name="pk_replicas"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("n", sa.BigInteger(), nullable=False, autoincrement=False),
        _number("at"),
        *map(_words, ("system", "who", "what", "saga", "detail", "previous", "digest")),
        sa.PrimaryKeyConstraint("n", name="pk_audit"),
    )
    op.create_index("ix_audit_system_n", "audit", ["system", "n"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        _number("entries"),
        _words("digest"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
    )
    op.bulk_insert(head, [{"id": 1, "entries": 0, "digest": "0" * 64}])


def _unique_where(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        table,
        columns,
        unique=True,
        sqlite_where=condition,
        postgresql_where=condition,
    )
