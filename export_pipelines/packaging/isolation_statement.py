"""The part of a manifest that attests that the rows are one tenant's: who read, by which rules, what was looked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from export_pipelines.core.model import Stage, TableVerdict


def isolation_account(stage: Stage, verdicts: Iterable[TableVerdict]) -> dict[str, Any] | None:
    """Facts of the session that read, and of the files that were read back; None where they were not recorded.

    The canary's marker stands here as its digest only: a manifest that held it would be a sighting of it.
    """
    account = stage.isolation
    if account is None:
        return None
    seen = {verdict.table: verdict.canary_seen for verdict in verdicts}
    return {
        "role": asdict(account.session.role),
        "policies_sha256": account.session.policies_sha256,
        "canary_marker_sha256": account.marker_sha256,
        "tables": [
            {
                "name": table.table,
                "row_security": account.session.row_security[table.table].value,
                "rows_read": table.rows,
                "rows_by_policy": account.rows_by_policy[table.table],
                "canary_rows": None
                if account.canary_rows is None
                else {"planted": account.canary_rows[table.table], "seen": seen[table.table]},
            }
            for table in stage.tables
        ],
    }
