"""Passwords of requests: kept sealed in a column of their own, wiped with the end of the request, never in clear."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
