"""What the service itself knows of a tenant's exports, described as a catalog, so that an audit package is made by the
same steps as any other.

Queue positions, heartbeats, sealed secrets and hashes of tokens are excluded, with reasons; nothing of them says what
was done.
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


def _excluded(reason: str, listed: str) -> dict[str, dict[str, Any]]:
    """Columns that never leave, named as for `_columns`."""
    return {name: {**column, "exclude": reason} for name, column in _columns("", listed).items()}


_INSTANT = "timestamp~with~time~zone"
_STATUS = "export_control.request_status"

SERVICE_CATALOG = Catalog.model_validate(
    {
        "name": "service",
        "title": "Exports and who asked for them",
        "schema": "export_control",
        "tenant": {"table": "export_control.export_requests", "key": "tenant_id"},
        "excluded": {
            "api_keys": "Hashes of credentials of callers",
            "api_replies": "Answers that are repeated to a caller who asks twice",
            "export_batches": "Which exports were ordered together; the exports themselves are here",
            "export_links": "Hashes of tokens that open exports",
            "export_measures": "Sizes of past exports, for estimates",
            "export_schedules": "Settings that the API shows; the audit log has their changes",
            "export_templates": "Settings that the API shows; the audit log has their changes",
            "metric_counters": "Figures of the service over all tenants",
            "metric_histograms": "Figures of the service over all tenants",
            "rate_limits": "How often a caller has asked lately",
            "schema_version": "Which migrations this database has had",
            "service_state": "What the service's background work last saw, of no tenant",
            "signing_keys": "Secrets of the service; their public halves are published",
        },
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
                )
                | _excluded(
                    "How the service plans and runs its work; says nothing of what was done",
                    "priority:smallint max_attempts:integer percentage:numeric rows_processed:bigint "
                    "total_rows:bigint current_table:text files_created:integer cancel_requested:boolean "
                    "estimated_bytes:bigint estimated_seconds:double~precision "
                    f"outages:integer not_before:{_INSTANT} asked_at:{_INSTANT} heartbeat_at:{_INSTANT} "
                    f"unavailable_since:{_INSTANT} failure_announced:boolean",
                )
                | _excluded(
                    "Which schedule asked; the API shows it with the export",
                    f"schedule_id:uuid scheduled_for:{_INSTANT} window_end:{_INSTANT}",
                )
                | _excluded("Where the service stores things", f"package_prefix:text objects_removed_at:{_INSTANT}")
                | _excluded(
                    "A secret of the caller or the service",
                    "idempotency_key:text sealed_secrets:bytea secrets_sealed_for:uuid",
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
                )
                | _excluded("Where the service stores things", "key:text")
                | _excluded("For ZIPs made on the way; sha256 says more", "crc32:bigint"),
            },
            "export_deliveries": {
                "description": "Who was told of an export or of a paused schedule, and what came of it",
                "primary_key": ["id"],
                "tenant": {"column": "tenant_id"},
                "relations": _OF_REQUEST,
                "roles": ["admin"],
                "columns": _columns(
                    "id:uuid tenant_id:text kind:text method:text recipient:text status:export_control.delivery_status "
                    f"attempts:integer created_at:{_INSTANT}",
                    f"request_id:uuid schedule_id:uuid error_message:text receipt:jsonb delivered_at:{_INSTANT}",
                    recipient="personal",
                )
                | _excluded("The text of a mail, with a link that opens the export", "message:jsonb")
                | _excluded(
                    "How the service plans and runs its work; says nothing of what was done",
                    f"max_attempts:integer due_at:{_INSTANT} attempt:integer doubtful:boolean",
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
