"""Side effects: what releases set off, held, sent, cancelled or undone."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
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
        "effects",
        *map(_words, ("system", "key", "release", "kind", "klass", "payload", "undo", "undoes")),
        *map(_words, ("saga", "state")),
        _number("attempts"),
        sa.Column("unsure", sa.Boolean(), nullable=False),
        *map(_number, ("queued_at", "due_at")),
        _maybe("sent_at"),
        *map(_words, ("answer", "why", "claim")),
        *map(_maybe, ("claimed_at", "claim_until")),
        _number("entry"),
        _number("place"),
        sa.PrimaryKeyConstraint("system", "key", name="pk_effects"),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name="fk_effects_release"),
    )
    op.create_index("ix_effects_system_state_entry_place", "effects", _ORDER)
    op.create_index("ix_effects_system_saga", "effects", ["system", "saga"])
    op.create_index("ix_effects_system_release", "effects", ["system", "release"])
    op.create_table(
        "effect_holds",
        *map(_words, ("system", "saga")),
        _number("since"),
        sa.PrimaryKeyConstraint("system", name="pk_effect_holds"),
        sa.ForeignKeyConstraint(["saga"], ["sagas.id"], name="fk_effect_holds_saga"),
    )


_ORDER = ["system", "state", "entry", "place"]


def downgrade() -> None:
    """A journal never goes back: it would forget what happened."""
    raise NotImplementedError("The journal's schema is never downgraded.")
