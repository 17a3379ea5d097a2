"""Replicas report a token: only who can read the journal may ask one to look at every byte."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A replica of an older ebbtide that still runs goes on reporting, without one.
    op.add_column("replicas", sa.Column("token", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """A journal never goes back: it would forget what happened."""
    raise NotImplementedError("The journal's schema is never downgraded.")
