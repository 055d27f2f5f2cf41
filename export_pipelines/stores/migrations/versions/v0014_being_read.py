"""Whether a conversion reads an export is one rule, whoever asks and whoever converts."""

from __future__ import annotations

from export_pipelines.stores.migrations.scripts import run_script_of

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_script_of(__file__)


def downgrade() -> None:
    raise RuntimeError("going back would drop the history of exports; restore a backup instead")
