"""Retention: which releases were given up."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "given_up",
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("release", name="pk_given_up"),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name="fk_given_up_release"),
    )


def downgrade() -> None:
    """A journal never goes back: it would forget what happened."""
    raise NotImplementedError("The journal's schema is never downgraded.")
