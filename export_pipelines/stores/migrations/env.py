"""Alembic's entry: runs the steps on the connection that `export_pipelines.stores.migrate` hands over."""

from __future__ import annotations

from alembic import context

SCHEMA = "export_control"

context.configure(
    connection=context.config.attributes["connection"], version_table="schema_version", version_table_schema=SCHEMA
)
with context.begin_transaction():
    context.run_migrations()
