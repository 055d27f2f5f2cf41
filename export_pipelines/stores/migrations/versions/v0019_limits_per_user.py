"""The database bounds how many schedules and templates of a tenant one user has."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
