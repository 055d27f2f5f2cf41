"""Work the outbox: one message a recipient, each with its own state. A failure here never touches the export."""

from __future__ import annotations

import datetime as dt

import structlog

from export_pipelines.core.errors import ExportError, RequestRejected, Unavailable
from export_pipelines.core.ports import Message
from export_pipelines.core.wording import readable_size
from export_pipelines.pipeline.publish.attachments import Enclosed, enclosed_files
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.deliveries import DueDelivery

_log = structlog.get_logger(__name__)

SUBJECT = "Your export is ready: {{NAME}}"
BODY = """Hello,

your export "{{NAME}}" is ready: {{ROWS}} rows, {{SIZE}}.

Download it here until {{EXPIRES_AT}}:
{{FILE_URL}}

Anyone with this link can download the files. Do not pass it on.
"""
NOTICE_SUBJECT = "Your scheduled export is paused: {{SCHEDULE}}"
NOTICE = """Hello,

your scheduled export "{{SCHEDULE}}" is paused:

{{REASON}}

Put it right, then resume the schedule.
"""


def deliver_due(services: ExportServices, request_id: str | None = None) -> int:
    """Send everything that is due, of one request or of all; how many were delivered."""
    delivered = 0
    while (due := services.deliveries.take_due(request_id)) is not None:
        delivered += _deliver(due, services)
    return delivered


def _deliver(due: DueDelivery, services: ExportServices) -> bool:
    try:
        if services.mailer is None:
            raise Unavailable("no mail server is configured; set SMTP_HOST and FROM_EMAIL")
        receipt = services.mailer.send(_message(due, services))
    except ExportError as error:
        final = isinstance(error, RequestRejected)
        services.deliveries.not_delivered(due, message=str(error), final=final)
        _log.warning("delivery_failed", delivery_id=due.id, request_id=due.request_id, final=final, error=str(error))
        return False
    services.deliveries.delivered(due.id, receipt=receipt)
    return True


def _message(due: DueDelivery, services: ExportServices) -> Message:
    if due.request_id is None or due.expires_at is None:
        return _notice(due)
    asked = due.message.get("link_ttl_hours")
    lifetime = services.settings.link_lifetime if asked is None else dt.timedelta(hours=asked)
    expires_at = min(due.expires_at, dt.datetime.now(dt.UTC) + lifetime)
    token, _link = services.links.make(due.request_id, expires_at=expires_at)
    values = {
        "NAME": due.export_name or "Data export",
        "ROWS": f"{due.rows:,}",
        "SIZE": readable_size(due.size_bytes),
        "EXPIRES_AT": f"{expires_at:%Y-%m-%d %H:%M} UTC",
        "FILE_URL": f"{services.settings.pages_url}/d/{token}",
    }
    subject = fill(due.message.get("subject") or SUBJECT, values)
    body = fill(due.message.get("body") or BODY, values)
    if values["FILE_URL"] not in body:
        body = f"{body.rstrip()}\n\n{values['FILE_URL']}\n"
    enclosed = enclosed_files(due.request_id, services) if due.message.get("attach") else Enclosed()
    return Message(
        recipient=due.recipient,
        subject=" ".join(subject.split()),
        body=f"{body.rstrip()}\n\n{enclosed.note}\n" if enclosed.note else body,
        message_id=f"{due.id}@export-pipelines",
        attachments=enclosed.files,
    )


def _notice(due: DueDelivery) -> Message:
    """To the owner of a schedule that was paused because it could not go on."""
    values = {name.upper(): str(due.message.get(name, "")) for name in ("schedule", "reason")}
    return Message(
        recipient=due.recipient,
        subject=" ".join(fill(NOTICE_SUBJECT, values).split()),
        body=fill(NOTICE, values),
        message_id=f"{due.id}@export-pipelines",
    )


def fill(template: str, values: dict[str, str]) -> str:
    """Replace ``{{NAME}}`` by its value, once; values are never templates themselves."""
    parts = template.split("{{")
    filled = parts[0]
    for part in parts[1:]:
        name, closed, rest = part.partition("}}")
        known = closed and name.strip() in values
        filled += values[name.strip()] + rest if known else "{{" + part
    return filled
