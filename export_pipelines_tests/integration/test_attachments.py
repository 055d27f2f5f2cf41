"""Files in mails: through a real mail server, opened as their receiver opens them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.ports import Attachment, Message
from export_pipelines.destinations import email
from export_pipelines.destinations.email import SmtpMailer
from export_pipelines.pipeline.publish.attachments import MOST_FILES
from export_pipelines.pipeline.publish.deliver import deliver_due
from export_pipelines_tests.outbox import mailing_to
from export_pipelines_tests.servers.smtp import ReceivedMail, SmtpServer
from export_pipelines_tests.workshop import Workshop

MAIL = {"method": "email", "recipients": ["ann@example.com"], "include_attachment": True}
HARMLESS = {"type": "products"}


def mailer(server: SmtpServer) -> SmtpMailer:
    return SmtpMailer(
        host=server.host, port=server.port, security="none", sender_email="exports@example.com", sender_name="Exports"
    )


def sent(workshop: Workshop, server: SmtpServer, config: dict[str, Any], **settings: int) -> tuple[Path, ReceivedMail]:
    """The package of that export, and the mail about it."""
    request = workshop.export({"format": "csv", "data_sources": [HARMLESS], "delivery": [MAIL], **config})
    assert request.error_message is None
    workshop.services.deliveries._control.rows("UPDATE export_control.export_deliveries SET due_at = now()")
    changed = workshop.settings.model_copy(update=settings)
    assert deliver_due(workshop.services.having(settings=changed, destinations=mailing_to(server))) == 1
    return workshop.package(request), server.received()[-1]


def attached(mail: ReceivedMail) -> dict[str, bytes]:
    return {str(part.get_filename()): part.get_payload(decode=True) for part in mail.message.iter_attachments()}


@pytest.mark.parametrize(("compression", "media_type"), [("none", "text/csv"), ("gzip", "application/gzip")])
def test_the_files_arrive_byte_for_byte(
    workshop: Workshop, smtp: Callable[..., SmtpServer], compression: str, media_type: str
) -> None:
    many = [HARMLESS, {"type": "invoices", "aggregation": "monthly", "fields": ["invoices", "status"]}]
    package, mail = sent(workshop, smtp(), {"data_sources": many, "compression": compression})
    files = {path.name: path.read_bytes() for path in package.glob("data/*")}
    assert attached(mail) == files
    assert {name.partition(".")[0] for name in files} == {"products", "invoices"}
    assert [part.get_content_type() for part in mail.message.iter_attachments()] == [media_type] * 2
    body = mail.message.get_body(("plain",))
    assert body is not None
    assert "/d/" in body.get_content()  # the link is there as ever


def test_an_archive_is_one_attachment_that_opens(workshop: Workshop, smtp: Callable[..., SmtpServer]) -> None:
    package, mail = sent(workshop, smtp(), {"compression": "zip", "name": "Bücher & more"})
    ((name, content),) = attached(mail).items()
    assert (package / name).read_bytes() == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert any(entry.endswith("data/products.csv") for entry in archive.namelist())


@pytest.mark.parametrize(
    ("config", "limits", "note"),
    [
        ({}, {"max_attachment": 1000}, "together they have"),
        ({"split_files": {"split_by": "week"}, "data_sources": [{"type": "invoice_items"}]}, {}, "there are"),
    ],
)
def test_what_is_too_much_for_a_mail_stays_behind_its_link(
    workshop: Workshop, smtp: Callable[..., SmtpServer], config: dict[str, Any], limits: dict[str, int], note: str
) -> None:
    package, mail = sent(workshop, smtp(), config, **limits)
    assert attached(mail) == {}
    if not limits:
        assert len(list(package.glob("data/*"))) > MOST_FILES
    assert note in mail.message.get_content()
    assert "/d/" in mail.message.get_content()


def test_a_file_that_is_not_what_was_published_is_not_sent(workshop: Workshop, smtp: Callable[..., SmtpServer]) -> None:
    request = workshop.export({"format": "csv", "data_sources": [HARMLESS], "delivery": [MAIL]})
    file = workshop.package(request) / "data" / "products.csv"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    server = smtp()
    workshop.services.deliveries._control.rows("UPDATE export_control.export_deliveries SET due_at = now()")
    assert deliver_due(workshop.services.having(destinations=mailing_to(server))) == 0
    assert server.received() == []
    (delivery,) = workshop.services.deliveries.of_request(request.id)
    assert "is not what was published" in delivery["error_message"]


@contextmanager
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library that changes a file on its way into the mail."""
    plain = email.EmailMessage.add_attachment

    def changed(mail: Any, content: bytes, **names: Any) -> None:
        plain(mail, content.replace(b"\r\n", b"\n"), **names)

    with monkeypatch.context() as patch:
        patch.setattr(email.EmailMessage, "add_attachment", changed)
        yield


def test_a_mail_is_opened_before_it_is_sent(smtp: Callable[..., SmtpServer], monkeypatch: pytest.MonkeyPatch) -> None:
    server = smtp()
    file = Attachment(filename="pets.csv", media_type="text/csv", content=b"id\r\n1\r\n")
    message = Message(recipient="a@example.com", subject="s", body="b", message_id="1@x", attachments=(file,))
    with spoiled(monkeypatch), pytest.raises(IntegrityViolation, match="nothing was sent"):
        mailer(server).send(message)
    assert server.received() == []
    mailer(server).send(message)
    (mail,) = server.received()
    assert [hashlib.sha256(content).digest() for content in attached(mail).values()] == [
        hashlib.sha256(file.content).digest()
    ]


def test_a_link_in_a_mail_lasts_as_long_as_was_asked_for(workshop: Workshop, smtp: Callable[..., SmtpServer]) -> None:
    _, mail = sent(workshop, smtp(), {"delivery": [{**MAIL, "link_ttl_hours": 2, "include_attachment": False}]})
    assert attached(mail) == {}
    rows = workshop.services.deliveries._control.rows(
        "SELECT extract(epoch FROM expires_at - created_at) / 3600 AS hours FROM export_control.export_links"
    )
    assert [round(float(row["hours"]), 2) for row in rows] == [2]


def test_a_package_is_kept_as_long_as_was_asked_for_and_more_than_others_is_refused(workshop: Workshop) -> None:
    days = [
        workshop.export({"tables": ["products"], "format": "csv", "retention": retention})
        for retention in ({"keep_exports_days": 2}, {"keep_exports_days": 90}, None)
    ]
    kept = [(request.expires_at - request.completed_at).days for request in days]  # type: ignore[operator]
    assert kept == [2, 90, 90]
    refused = workshop.export({"tables": ["products"], "format": "csv", "retention": {"keep_exports_days": 9000}})
    assert "9000 days are longer than packages are kept here; ask for up to 90" in str(refused.error_message)
