"""The manifest: what is in a package, where it came from, and how a reader can check it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import (
    ExportFile,
    ExportPlan,
    Sealing,
    SnapshotInfo,
    Stage,
    StagedTable,
    TableSelection,
    TableVerdict,
)
from export_pipelines.core.omissions import TableOmissions
from export_pipelines.core.packing import period_column
from export_pipelines.core.ports import FormatSpec
from export_pipelines.core.types import kind_of
from export_pipelines.packaging.fidelity import carried_as_text, fidelity_notes
from export_pipelines.packaging.isolation_statement import isolation_account
from export_pipelines.packaging.migration_scripts import migration_account
from export_pipelines.packaging.omissions import LEFT_OUT, account_beside, table_account
from export_pipelines.packaging.selections import figures_account, filters_account

MANIFEST_VERSION = 1


def build_manifest(
    plan: ExportPlan,
    catalog: Catalog,
    stage: Stage,
    files: Iterable[ExportFile],
    verdicts: Iterable[TableVerdict],
    *,
    spec: FormatSpec,
) -> dict[str, Any]:
    """Everything a third party needs, as plain JSON values.

    Nothing that differs between two runs of one request on one snapshot: which run and attempt made a package is in the
    request's events.
    """
    staged = {table.table: table for table in stage.tables}
    found = {verdict.table: verdict for verdict in verdicts}
    files = tuple(files)
    settled = {part.table: dict(part.settled) for file in files for part in file.parts}
    return {
        "manifest_version": MANIFEST_VERSION,
        "export": {
            "id": plan.request_id,
            "name": plan.name,
            "type": plan.export_type,
            "tenant_id": plan.scope.tenant_id,
            "requested_at": plan.requested_at.isoformat(),
        },
        "format": {"name": plan.format, "options": plan.format_options, "compression": plan.compression},
        "split": {"period": plan.split.period, "max_size_bytes": plan.split.max_bytes},
        "encryption": plan.sealing.method if plan.sealing else None,
        "source": {
            **({"converted_from": plan.converted_from} if plan.converted_from else {}),
            "catalog": catalog.name,
            "server_version": stage.snapshot.server_version,
            "role": stage.snapshot.role,
            **_state_of(plan, stage),
        },
        "tables": [
            _table(
                plan,
                selection,
                catalog,
                staged[selection.table],
                found[selection.table],
                stage.omissions.of(selection.table),
            )
            | {
                "fidelity": fidelity_notes(
                    spec,
                    plan.format_options,
                    catalog.shape(selection.table, selection.aggregation),
                    staged[selection.table],
                    settled.get(selection.table, {}),
                )
            }
            for selection in plan.selections
        ],
        LEFT_OUT: account_beside(stage.omissions),
        "isolation": isolation_account(stage, found.values()),
        **({"migration": migration_account(stage.migration)} if stage.migration else {}),
        "files": [_file(file) for file in files],
        "software": {name: version(name) for name in ("export-pipelines", "polars", "pyarrow", "duckdb")},
    }


def _state_of(plan: ExportPlan, stage: Stage) -> dict[str, Any]:
    """Of which moment the rows are: one snapshot, or many, and then which rows are of which."""
    if not stage.parts:
        return {"snapshot": _snapshot(stage.snapshot)}
    assert plan.point_in_time is not None
    return {
        "snapshot": None,
        "point_in_time": plan.point_in_time.isoformat(),
        "figures_from": "the materialised parts, which were compared with the source when they were written",
        "parts": [
            {
                "table": part.table,
                "partition": part.partition,
                "rows": part.rows,
                "snapshot": _snapshot(part.snapshot),
            }
            for part in stage.parts
        ],
    }


def _snapshot(info: SnapshotInfo) -> dict[str, Any]:
    return {"id": info.snapshot_id, "lsn": info.lsn, "taken_at": info.taken_at.isoformat()}


def sealed_manifest(plan: ExportPlan, sealing: Sealing, archive: ExportFile) -> dict[str, Any]:
    """What may be read without the key: enough to tell whether the archive is whole, nothing of what is in it."""
    return {
        "manifest_version": MANIFEST_VERSION,
        "export": {"id": plan.request_id},
        "sealed": {
            "path": archive.path,
            "method": sealing.method,
            "size_bytes": archive.size_bytes,
            "sha256": archive.sha256,
        },
    }


def _table(
    plan: ExportPlan,
    selection: TableSelection,
    catalog: Catalog,
    staged: StagedTable,
    verdict: TableVerdict,
    omissions: TableOmissions,
) -> dict[str, Any]:
    table = catalog.shape(selection.table, selection.aggregation)
    return {
        "name": selection.table,
        "source": ".".join(catalog.relation_name(selection.table)),
        "rows": staged.rows,
        **({"null_is_shared": True} if catalog.null_is_shared(selection.table) else {}),
        "columns": [
            {
                "name": field.name,
                "type": table.columns[field.name].type,
                "kind": kind_of(field).value,
                "nullable": field.nullable,
                "classification": table.columns[field.name].classification.value,
                **({"label": table.columns[field.name].label} if table.columns[field.name].label else {}),
                **({"masked": table.columns[field.name].mask} if table.columns[field.name].mask else {}),
                **carried_as_text(table, staged, field.name),
            }
            for field in table.arrow_schema(staged.columns, staged.as_text)
        ],
        LEFT_OUT: table_account(omissions),
        "primary_key": list(table.primary_key),
        "split_column": period_column(selection.columns, table) if plan.split.period else None,
        "filters": filters_account(selection),
        **({"aggregation": figures_account(selection, catalog)} if selection.aggregation else {}),
        "aggregates": {name: _present(asdict(figures)) for name, figures in staged.aggregates.columns.items()},
        "validation": {
            "rows_match": verdict.rows_match,
            "aggregates_match": verdict.aggregates_match,
            "digest_match": verdict.digest_match,
        },
    }


def _file(file: ExportFile) -> dict[str, Any]:
    return {
        "path": file.path,
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "rows": file.rows,
        "parts": [
            {"table": part.table, "rows": part.rows, **({"route": list(part.route)} if part.route else {})}
            for part in file.parts
        ],
    }


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def to_json(document: dict[str, Any]) -> bytes:
    """Readable and the same for the same content."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
