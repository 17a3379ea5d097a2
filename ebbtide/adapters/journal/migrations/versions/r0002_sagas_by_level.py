"""Sagas by level and state: a rare level's durations are found among 100,000 sagas."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_sagas_system_level_state_entry", "sagas", ["system", "level", "state", "entry"]
    )


def downgrade() -> None:
    """A journal never goes back: it would forget what happened."""
    raise NotImplementedError("The journal's schema is never downgraded.")
