"""Debts: projections that have yet to follow the route."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "debts",
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("system", "layer", "name", "saga", "why")
        ),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("system", "layer", "name", name="pk_debts"),
        sa.ForeignKeyConstraint(["saga"], ["sagas.id"], name="fk_debts_saga"),
    )


def downgrade() -> None:
    """A journal never goes back: it would forget what happened."""
    raise NotImplementedError("The journal's schema is never downgraded.")
