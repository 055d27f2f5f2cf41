"""API keys, rate limits and the audit log."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the audit log; restore a backup instead")
