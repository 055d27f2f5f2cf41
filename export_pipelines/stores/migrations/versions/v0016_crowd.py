"""Figures of other tenants' past are told of a crowd only."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
