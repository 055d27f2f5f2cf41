"""Figures: what exports of each table cost, totals that outlive the exports, the state of the queue."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
