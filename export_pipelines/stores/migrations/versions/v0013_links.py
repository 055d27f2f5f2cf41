"""Links are used by their token, and the API is not told what would open them."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
