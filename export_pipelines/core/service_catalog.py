"""What the service itself knows of a tenant's exports, described as a catalog, so that an audit package is made by the
same steps as any other.

Not here: queue positions, heartbeats, sealed secrets, hashes of tokens; nothing of them says what was done.
"""

from __future__ import annotations

from typing import Any

from export_pipelines.core.catalog import Catalog

_OF_REQUEST = {"request": {"columns": ["request_id"], "references": "exports", "referenced_columns": ["id"]}}


def _columns(required: str, optional: str = "", **classes: str) -> dict[str, dict[str, Any]]:
    """From ``name:type`` separated by blanks; a tilde stands for a blank in a type."""
    found = {}
    for nullable, listed in ((False, required), (True, optional)):
        for entry in listed.split():
            name, _, kind = entry.partition(":")
            found[name] = {
                "type": kind.replace("~", " "),
                "nullable": nullable,
                "classification": classes.get(name, "internal"),
            }
    return found


_INSTANT = "timestamp~with~time~zone"
_STATUS = "export_control.request_status"

SERVICE_CATALOG = Catalog.model_validate(
    {
        "name": "service",
        "title": "Exports and who asked for them",
        "schema": "export_control",
        "tenant": {"table": "export_control.export_requests", "key": "tenant_id"},
        "tables": {
            "exports": {
                "source": "export_control.export_requests",
                "description": "Every export that was asked for; passwords are never kept",
                "primary_key": ["id"],
                "tenant": {"column": "tenant_id"},
                "roles": ["admin"],
                "columns": _columns(
                    f"id:uuid tenant_id:text config:jsonb status:{_STATUS} launched_by:text attempt:integer "
                    f"created_at:{_INSTANT}",
                    "requested_by:text requested_role:text batch_id:uuid run_id:text error_type:text "
                    "error_message:text estimated_rows:bigint package_rows:bigint package_bytes:bigint "
                    "manifest_sha256:text "
                    f"started_at:{_INSTANT} completed_at:{_INSTANT} expires_at:{_INSTANT} deleted_at:{_INSTANT}",
                    requested_by="identifier",
                ),
            },
            "export_events": {
                "source": "export_control.export_request_events",
                "description": "Every change of an export's status",
                "primary_key": ["id"],
                "tenant": {"through": "request"},
                "relations": _OF_REQUEST,
                "roles": ["admin"],
                "columns": _columns(
                    f"id:bigint request_id:uuid at:{_INSTANT} new_status:{_STATUS} attempt:integer",
                    f"old_status:{_STATUS} run_id:text detail:text",
                ),
            },
            "export_files": {
                "description": "Files of finished exports, also of those that are gone",
                "primary_key": ["request_id", "position"],
                "tenant": {"through": "request"},
                "relations": _OF_REQUEST,
                "roles": ["admin"],
                "columns": _columns(
                    "request_id:uuid position:integer path:text media_type:text rows:bigint size_bytes:bigint "
                    "sha256:text"
                ),
            },
            "export_deliveries": {
                "description": "Who was told of an export or of a paused schedule, and what came of it",
                "primary_key": ["id"],
                "tenant": {"column": "tenant_id"},
                "relations": _OF_REQUEST,
                "roles": ["admin"],
                "columns": _columns(
                    "id:uuid tenant_id:text method:text recipient:text status:export_control.delivery_status "
                    f"attempts:integer created_at:{_INSTANT}",
                    f"request_id:uuid schedule_id:uuid error_message:text receipt:text delivered_at:{_INSTANT}",
                    recipient="personal",
                ),
            },
            "audit_log": {
                "description": "Every operation of the API and the command line, in the chain of hashes",
                "primary_key": ["id"],
                "tenant": {"column": "tenant_id"},
                "roles": ["admin"],
                "columns": _columns(
                    f"id:bigint at:{_INSTANT} action:text outcome:text detail:json previous_hash:bytea hash:bytea",
                    "tenant_id:text user_id:text role:text credential:text target_type:text target_id:text ip:inet "
                    "user_agent:text http_request_id:text",
                    user_id="identifier",
                    ip="personal",
                    user_agent="personal",
                ),
            },
        },
    }
)


def catalog_of(export_type: str, catalog: Catalog) -> Catalog:
    """The catalog that an export of that type is made by."""
    return SERVICE_CATALOG if export_type == "audit" else catalog
