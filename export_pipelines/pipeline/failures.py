"""Tell people of exports that failed for good: who asked, and who was to receive them. Once for each such end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from export_pipelines.core.failures import explain_failure
from export_pipelines.destinations.registry import all_destinations, find_destination
from export_pipelines.pipeline.messages import failure_message
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.deliveries import FailedRequest, Notice

_MOST_ENTRIES = 20  # of `delivery`, as the configuration allows; a refused one may say more
_REQUESTER_BY = "email"  # a user whose id is an address of this kind can be told
_log = structlog.get_logger(__name__)


def announce_failures(services: ExportServices) -> int:
    """Write the notices of failed exports into the outbox; of how many exports.

    The notices of an export and the note that they were written are one transaction, so they are written once, whoever
    looks at the same time or dies meanwhile.
    """
    announced = 0
    while services.deliveries.announce_failure(lambda failed: _notices(failed, services)):
        announced += 1
    return announced


def _notices(failed: FailedRequest, services: ExportServices) -> list[Notice]:
    told: dict[tuple[str, str], Notice] = {}
    for method, recipient, to_requester in recipients_of(failed.config, failed.requested_by):
        if not services.destinations.configured(method):
            _log.warning("failure_not_told", request_id=failed.id, method=method, reason="not configured")
            continue
        message = failure_message(
            explain_failure(failed.error_type, failed.error_message),
            name=_name(failed.config),
            ordered_at=f"{failed.created_at:%Y-%m-%d %H:%M} UTC",
            request_id=failed.id,
            to_requester=to_requester,
        )
        told.setdefault((method, recipient), Notice(method=method, recipient=recipient, message=message))
    return list(told.values())


def recipients_of(config: Mapping[str, Any], requested_by: str | None) -> list[tuple[str, str, bool]]:
    """Method, recipient, and whether that is who asked; the requester first, so that nobody is told twice.

    The configuration may be one that was refused, so anything.
    """
    found: list[tuple[str, str, bool]] = []
    if requested_by:
        reached = find_destination(_REQUESTER_BY).notice_recipients({"recipients": [requested_by]})
        found += [(_REQUESTER_BY, who, True) for who in reached]
    entries = config.get("delivery")
    for entry in entries[:_MOST_ENTRIES] if isinstance(entries, list) else []:
        spec = all_destinations().get(str(entry.get("method"))) if isinstance(entry, dict) else None
        if spec is not None:
            found += [(spec.name, who, False) for who in spec.notice_recipients(entry)]
    return found


def _name(config: Mapping[str, Any]) -> str:
    name = config.get("name")
    return name[:200] if isinstance(name, str) else ""
