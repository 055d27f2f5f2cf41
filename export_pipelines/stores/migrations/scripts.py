"""Runs the SQL file that lies beside a step, under the step's own name."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from alembic import op


def run_script_of(step: str) -> None:
    """Straight to the driver: SQLAlchemy would read the % of RAISE as a placeholder."""
    with closing(op.get_bind().connection.cursor()) as cursor:
        cursor.execute(Path(step).with_suffix(".sql").read_text(encoding="utf-8"))
