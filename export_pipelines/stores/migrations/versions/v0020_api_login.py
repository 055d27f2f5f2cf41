"""What a stolen login of the API can do is less: no sealed passwords, no other names, no schedules without a role."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0020"
down_revision = "0018"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
