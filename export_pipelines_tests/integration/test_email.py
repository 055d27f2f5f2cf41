"""Mail through a real SMTP server, with and without TLS, and every way it can say no."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.core.ports import Message
from export_pipelines.destinations.email import SmtpMailer
from export_pipelines.settings import Settings, load_settings
from export_pipelines_tests.servers.processes import HOST, ports
from export_pipelines_tests.servers.smtp import Authority, SmtpServer

MESSAGE = Message(
    recipient="ann@example.com", subject="Your export is ready", body="Here:\nhttps://x/d/t\n", message_id="1@exports"
)
USER, PASSWORD = "exporter", "p\u00e4ss wörd:1"


def mailer(server: SmtpServer, **settings: Any) -> SmtpMailer:
    defaults = {"security": "none", "sender_email": "exports@example.com", "sender_name": "Export Pipelines"}
    return SmtpMailer(host=server.host, port=server.port, **{**defaults, **settings})


def test_a_mail_arrives_once_as_it_was_written(smtp: Callable[..., SmtpServer]) -> None:
    server = smtp()
    assert mailer(server).send(MESSAGE) == "<1@exports>"
    [mail] = server.received()
    assert mail.sender == "exports@example.com"
    assert mail.recipients == ["ann@example.com"]
    assert mail.message["From"] == "Export Pipelines <exports@example.com>"
    assert mail.message["To"] == "ann@example.com"
    assert mail.message["Subject"] == MESSAGE.subject
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert mail.message["Date"]
    assert mail.message.get_content_type() == "text/plain"
    assert mail.message.get_content() == MESSAGE.body


def test_every_try_has_the_same_message_id(smtp: Callable[..., SmtpServer]) -> None:
    server = smtp()
    receipts = {mailer(server).send(MESSAGE) for _ in range(2)}
    assert receipts == {mail.message["Message-ID"] for mail in server.received()} == {"<1@exports>"}


@pytest.mark.parametrize(
    "text",
    ["Zoë, файл, 数据, 🐾", "a" * 300, "x " * 200, "=?utf-8?q?not_encoded?=", "trailing space ", "\ttab"],
)
def test_text_beyond_ascii_and_long_lines_arrive_exactly(smtp: Callable[..., SmtpServer], text: str) -> None:
    server = smtp()
    subject = " ".join(text.split())
    mailer(server, sender_name=f"Tierärzte {text[:20].strip()}").send(
        replace(MESSAGE, subject=subject, body=f"{text}\n.\n..dots\nFrom here\n")
    )
    [mail] = server.received()
    assert mail.message.get_content() == f"{text}\n.\n..dots\nFrom here\n"
    assert mail.message["From"].addresses[0].display_name == f"Tierärzte {text[:20].strip()}"
    if not subject.startswith("=?"):  # reads as an encoded word, whoever wrote it
        assert mail.message["Subject"] == subject


@pytest.mark.parametrize(
    "spoiled",
    [
        replace(MESSAGE, subject="Hi\r\nBcc: eve@example.com"),
        replace(MESSAGE, subject="Hi\n\nbody"),
        replace(MESSAGE, recipient="ann@example.com\r\nBcc: eve@example.com"),
        replace(MESSAGE, recipient="ann@example.com, eve@example.com"),
        replace(MESSAGE, recipient="ann@example.com>, <eve@example.com"),
        replace(MESSAGE, recipient="no address"),
        replace(MESSAGE, recipient="a@" + "ü" * 100 + ".com"),
        replace(MESSAGE, message_id="1\r\nBcc: eve@example.com"),
        replace(MESSAGE, body="half a \ud83d character"),
    ],
)
def test_a_text_that_would_start_another_header_is_never_sent(
    smtp: Callable[..., SmtpServer], spoiled: Message
) -> None:
    server = smtp()
    with pytest.raises(RequestRejected):
        mailer(server).send(spoiled)
    assert server.received() == []


def test_a_sender_name_cannot_start_another_header(smtp: Callable[..., SmtpServer]) -> None:
    server = smtp()
    with pytest.raises(RequestRejected):
        mailer(server, sender_name="Clinic\r\nBcc: eve@example.com").send(MESSAGE)
    assert server.received() == []


def test_a_sender_name_may_hold_what_addresses_are_made_of(smtp: Callable[..., SmtpServer]) -> None:
    server = smtp()
    mailer(server, sender_name='Müller, "Vets" <eve@example.com>').send(MESSAGE)
    [mail] = server.received()
    [sender] = mail.message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ('Müller, "Vets" <eve@example.com>', "exports@example.com")


def test_an_international_domain_is_sent_in_its_ascii_form(smtp: Callable[..., SmtpServer]) -> None:
    server = smtp()
    mailer(server).send(replace(MESSAGE, recipient="ann@bücher.example"))
    assert server.received()[0].recipients == ["ann@xn--bcher-kva.example"]


@pytest.mark.parametrize("smtputf8", [False, True])
def test_an_international_mailbox_needs_a_server_that_knows_it(smtp: Callable[..., SmtpServer], smtputf8: bool) -> None:
    server = smtp(smtputf8=smtputf8)
    message = replace(MESSAGE, recipient="zoë@example.com")
    if smtputf8:
        mailer(server).send(message)
        assert server.received()[0].recipients == ["zoë@example.com"]
    else:
        with pytest.raises(RequestRejected, match="beyond ASCII"):
            mailer(server).send(message)


# Encryption and login ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_and_password_travel_encrypted(
    smtp: Callable[..., SmtpServer], authority: Authority, security: str
) -> None:
    server = smtp(security=security, user=USER, password=PASSWORD)
    mailer(server, security=security, user=USER, password=PASSWORD, ca_file=authority.ca).send(MESSAGE)
    [mail] = server.received()
    assert mail.login == USER
    assert mail.encrypted or security == "tls"  # aiosmtpd tells only of STARTTLS


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_the_systems_authorities_are_trusted_too(
    smtp: Callable[..., SmtpServer], authority: Authority, security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    server = smtp(security=security)
    mailer(server, security=security).send(MESSAGE)
    assert len(server.received()) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_nobody_vouches_for_is_refused_before_anything_is_said(
    smtp: Callable[..., SmtpServer], security: str
) -> None:
    server = smtp(security=security)
    with pytest.raises(Unavailable, match=r"not trusted.*SMTP_CA_FILE"):
        mailer(server, security=security, user=USER, password=PASSWORD).send(MESSAGE)
    assert server.received() == []


def test_a_certificate_for_another_name_is_refused(smtp: Callable[..., SmtpServer], authority: Authority) -> None:
    server = replace(smtp(security="tls"), host="localhost")
    with pytest.raises(Unavailable, match="not trusted"):
        mailer(server, security="tls", ca_file=authority.ca).send(MESSAGE)


def test_an_authority_file_that_cannot_be_read_is_named(smtp: Callable[..., SmtpServer], tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"SMTP_CA_FILE .*gone\.pem"):
        mailer(smtp(security="tls"), security="tls", ca_file=tmp_path / "gone.pem").send(MESSAGE)


def test_a_server_without_starttls_gets_neither_password_nor_mail(smtp: Callable[..., SmtpServer]) -> None:
    server = smtp()
    with pytest.raises(Unavailable, match=r"STARTTLS.*SMTP_SECURITY"):
        mailer(server, security="starttls", user=USER, password=PASSWORD).send(MESSAGE)
    assert server.received() == []


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong-one"), ("nobody", PASSWORD), (USER, None)])
def test_a_wrong_login_is_unavailable_and_shows_no_password(
    smtp: Callable[..., SmtpServer], authority: Authority, user: str, password: str | None
) -> None:
    server = smtp(security="tls", user=USER, password=PASSWORD)
    with pytest.raises(Unavailable, match="SMTP_USER and SMTP_PASSWORD") as caught:
        mailer(server, security="tls", user=user, password=password, ca_file=authority.ca).send(MESSAGE)
    assert password is None or password not in str(caught.value)
    assert server.received() == []


def test_a_password_is_never_sent_readable_through_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_HOST", "mail.example.com")
    monkeypatch.setenv("SMTP_USER", USER)
    monkeypatch.setenv("SMTP_SECURITY", "none")
    with pytest.raises(RequestRejected, match="SMTP_SECURITY=none would send SMTP_PASSWORD readable"):
        load_settings()


@pytest.mark.parametrize(
    "settings",
    [
        {"smtp_host": "127.0.0.1", "smtp_user": USER, "smtp_security": "none"},
        {"smtp_host": "localhost", "smtp_user": USER, "smtp_security": "none"},
        {"smtp_host": "mail.example.com", "smtp_security": "none"},
        {"smtp_host": "mail.example.com", "smtp_user": USER, "smtp_security": "tls"},
    ],
)
def test_a_local_relay_and_an_encrypted_login_are_allowed(settings: dict[str, Any]) -> None:
    assert Settings(**settings).smtp_host == settings["smtp_host"]


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "error", "code"),
    [
        (replace(MESSAGE, recipient="later@example.com"), Unavailable, "the recipient with code 451"),
        (replace(MESSAGE, recipient="never@example.com"), RequestRejected, "the recipient with code 550"),
        (replace(MESSAGE, body="refuse-this-text"), RequestRejected, "the message with code 554"),
    ],
)
def test_the_servers_code_decides_whether_to_try_again(
    smtp: Callable[..., SmtpServer], message: Message, error: type[Exception], code: str
) -> None:
    server = smtp()
    with pytest.raises(error, match=code):
        mailer(server).send(message)
    assert server.received() == []


@pytest.mark.parametrize("manners", ["grumpy", "hangs-up"])
def test_a_rude_goodbye_does_not_make_an_accepted_mail_look_unsent(
    smtp: Callable[..., SmtpServer], manners: str
) -> None:
    server = smtp()
    assert mailer(server).send(replace(MESSAGE, recipient=f"{manners}@example.com"))
    assert len(server.received()) == 1


def test_a_server_that_is_down_is_unavailable_and_named() -> None:
    [port] = ports(1)
    with pytest.raises(Unavailable, match=f"mail server {HOST}:{port} does not answer.*SMTP_HOST"):
        mailer(SmtpServer(port=port, mails=Path("unused"))).send(MESSAGE)


def test_a_server_that_hangs_up_is_unavailable() -> None:
    with socket.create_server((HOST, 0)) as listener:

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        server = SmtpServer(port=listener.getsockname()[1], mails=Path("unused"))
        with pytest.raises(Unavailable, match="does not answer"):
            mailer(server).send(MESSAGE)
        thread.join()
