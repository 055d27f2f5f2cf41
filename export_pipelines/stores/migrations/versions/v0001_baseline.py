"""The schema of 0.1.0."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
