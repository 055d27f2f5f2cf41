"""Indexes for expiry and cleanup."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
