"""Alembic's script folder. A new revision is a file in `versions` and a new `schema.HEAD`."""
