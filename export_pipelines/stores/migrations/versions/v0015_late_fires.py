"""A schedule is late by its oldest fire that is no completed export, however many came after it."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
