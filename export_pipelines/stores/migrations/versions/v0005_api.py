"""The API's role in the control database: rights on columns, rows by policy; links; replies to repeated writes."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
