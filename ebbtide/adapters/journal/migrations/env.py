"""Run the revisions on the connection, and inside the transaction, of the caller."""

from alembic import context

from ebbtide.adapters.journal.indexes import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
