"""Whoever pauses a schedule that cannot go on, it is logged and its owner told."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
