"""Bulk orders: batches of requests, and requests that name no tables."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
