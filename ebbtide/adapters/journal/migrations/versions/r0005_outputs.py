"""Batch outputs: what each release wrote, who reads it, and what is invalid."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _words(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _maybe(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=True)


def upgrade() -> None:
    op.create_table(
        "output_runs",
        *map(_words, ("system", "id", "release", "models")),
        _number("began_at"),
        sa.PrimaryKeyConstraint("system", "id", name="pk_output_runs"),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name="fk_output_runs_release"),
    )
    op.create_table(
        "output_parts",
        *map(_words, ("system", "output", "partition", "run", "release", "models")),
        _number("begun_at"),
        *map(_maybe, ("written_at", "rows", "version")),
        *map(_words, ("replaced_by", "recall")),
        sa.Column("marked", sa.Boolean(), nullable=False),
        _number("entry"),
        sa.PrimaryKeyConstraint("system", "output", "partition", "run", name="pk_output_parts"),
    )
    op.create_index(
        "ix_output_parts_system_output_replaced_by",
        "output_parts",
        ["system", "output", "replaced_by"],
    )
    op.create_table(
        "output_recalls",
        *map(_words, ("id", "system", "blame", "by", "reason", "saga")),
        _number("at"),
        sa.PrimaryKeyConstraint("id", name="pk_output_recalls"),
    )
    op.create_index("ix_output_recalls_system_at", "output_recalls", ["system", "at"])
    op.create_table(
        "output_reads",
        *map(_words, ("system", "output", "consumer", "digest", "content")),
        *map(_number, ("first_at", "last_at")),
        sa.PrimaryKeyConstraint("system", "output", "consumer", "digest", name="pk_output_reads"),
    )


def downgrade() -> None:
    """A journal never goes back: it would forget what happened."""
    raise NotImplementedError("The journal's schema is never downgraded.")
