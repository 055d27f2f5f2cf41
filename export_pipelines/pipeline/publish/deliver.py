"""Work the outbox: one delivery a recipient, each with its own state. A failure here never touches the export."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from export_pipelines.core.destinations import (
    Carries,
    Delivery,
    DeliveryKind,
    Destination,
    DestinationSpec,
    Effect,
    PackageFile,
    Receipt,
)
from export_pipelines.core.errors import Cancelled, ExportError, RequestRejected
from export_pipelines.core.ports import Message
from export_pipelines.core.status import RequestStatus
from export_pipelines.core.wording import readable_size
from export_pipelines.destinations.registry import find_destination
from export_pipelines.pipeline.failures import announce_failures
from export_pipelines.pipeline.messages import PAUSED, PAUSED_SUBJECT, READY, READY_SUBJECT, UNNAMED, fill, one_line
from export_pipelines.pipeline.publish.attachments import Enclosed, enclosed_files
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.deliveries import DueDelivery

_RENEW_SECONDS = 60  # of a claim that lasts ten minutes
_log = structlog.get_logger(__name__)


def deliver_due(services: ExportServices, request_id: str | None = None) -> int:
    """Deliver everything that is due, of one request or of all; how many were delivered.

    All includes the notices of exports that failed meanwhile.
    """
    if request_id is None:
        announce_failures(services)
    delivered = 0
    while (due := services.deliveries.take_due(request_id)) is not None:
        delivered += _deliver(due, services)
    return delivered


def _deliver(due: DueDelivery, services: ExportServices) -> bool:
    try:
        spec = find_destination(due.method)
        destination = services.destinations.open(spec.name)
        receipt = _handed_over(due, spec, destination, services)
    except ExportError as error:
        final = isinstance(error, RequestRejected)
        services.deliveries.not_delivered(due, message=str(error), final=final)
        _log.warning("delivery_failed", delivery_id=due.id, request_id=due.request_id, final=final, error=str(error))
        return False
    services.deliveries.delivered(due.id, receipt=receipt)
    return True


def _handed_over(
    due: DueDelivery, spec: DestinationSpec, destination: Destination, services: ExportServices
) -> Receipt:
    """A second try first asks whether an earlier one has happened, where the destination can tell."""
    delivery = _delivery(due, spec, services)
    if spec.effect is Effect.ONCE and due.attempts > 1 and (receipt := destination.probe(delivery)) is not None:
        return receipt
    if spec.carries is Carries.NOTICE or due.kind is not DeliveryKind.PACKAGE:
        delivery = replace(delivery, message=_message(due, services))
    receipt = destination.deliver(delivery)
    return replace(receipt, duplicate_possible=due.doubtful and spec.effect is Effect.AT_LEAST_ONCE)


def _delivery(due: DueDelivery, spec: DestinationSpec, services: ExportServices) -> Delivery:
    files: tuple[PackageFile, ...] = ()
    if due.kind is DeliveryKind.PACKAGE:
        if due.request_status is not RequestStatus.COMPLETED:
            raise RequestRejected(f"the export is {due.request_status}; its files are no longer there to deliver")
        if spec.carries is Carries.FILES:
            files = _files(due, spec, services)
    return Delivery(
        id=due.id,
        kind=due.kind,
        tenant_id=due.tenant_id,
        request_id=due.request_id,
        recipient=due.recipient,
        files=files,
        export_name=due.export_name or UNNAMED,
        manifest_sha256=due.manifest_sha256 or "",
        requested_at=due.requested_at,
        still_ours=_claim(due, services),
    )


def _files(due: DueDelivery, spec: DestinationSpec, services: ExportServices) -> tuple[PackageFile, ...]:
    rows = services.deliveries.files_of(str(due.request_id))
    limit = spec.max_file_bytes
    for row in rows:
        if limit is not None and row["size_bytes"] > limit:
            raise RequestRejected(
                f"{row['path']} has {readable_size(row['size_bytes'])}, {spec.title} takes {readable_size(limit)} a "
                "file; split the files by size"
            )
    return tuple(
        PackageFile(
            path=row["path"],
            media_type=row["media_type"],
            size_bytes=row["size_bytes"],
            sha256=row["sha256"],
            open=partial(services.store.reading, row["key"]),
        )
        for row in rows
    )


def _claim(due: DueDelivery, services: ExportServices) -> Callable[[], None]:
    """To be called often by whoever moves much: keeps other senders away, and stops this one when it came too late."""
    renewed_at = time.monotonic()

    def still_ours() -> None:
        nonlocal renewed_at
        if time.monotonic() - renewed_at < _RENEW_SECONDS:
            return
        if not services.deliveries.renew(due):
            raise Cancelled(f"delivery {due.id} was taken over by another sender")
        renewed_at = time.monotonic()

    return still_ours


def _message(due: DueDelivery, services: ExportServices) -> Message:
    match due.kind:
        case DeliveryKind.PACKAGE:
            return _ready(due, services)
        case DeliveryKind.EXPORT_FAILED:
            return _written(due, str(due.message.get("subject")), str(due.message.get("body")))
        case DeliveryKind.SCHEDULE_PAUSED:
            values = {name.upper(): str(due.message.get(name, "")) for name in ("schedule", "reason")}
            return _written(due, one_line(fill(PAUSED_SUBJECT, values)), fill(PAUSED, values))


def _ready(due: DueDelivery, services: ExportServices) -> Message:
    request_id, kept_until = str(due.request_id), due.expires_at or dt.datetime.now(dt.UTC)
    asked = due.message.get("link_ttl_hours")
    lifetime = services.settings.link_lifetime if asked is None else dt.timedelta(hours=asked)
    expires_at = min(kept_until, dt.datetime.now(dt.UTC) + lifetime)
    token, _link = services.links.make(request_id, expires_at=expires_at)
    values = {
        "NAME": due.export_name or UNNAMED,
        "ROWS": f"{due.rows:,}",
        "SIZE": readable_size(due.size_bytes),
        "EXPIRES_AT": f"{expires_at:%Y-%m-%d %H:%M} UTC",
        "FILE_URL": f"{services.settings.pages_url}/d/{token}",
    }
    subject = fill(due.message.get("subject") or READY_SUBJECT, values)
    body = fill(due.message.get("body") or READY, values)
    if values["FILE_URL"] not in body:
        body = f"{body.rstrip()}\n\n{values['FILE_URL']}\n"
    enclosed = enclosed_files(request_id, services) if due.message.get("include_attachment") else Enclosed()
    body = f"{body.rstrip()}\n\n{enclosed.note}\n" if enclosed.note else body
    return replace(_written(due, " ".join(subject.split()), body), attachments=enclosed.files)


def _written(due: DueDelivery, subject: str, body: str) -> Message:
    return Message(recipient=due.recipient, subject=subject, body=body, message_id=f"{due.id}@export-pipelines")
