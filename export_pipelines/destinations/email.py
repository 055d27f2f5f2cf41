"""Plain-text mail, with files where asked for, through the operator's SMTP server."""

from __future__ import annotations

import base64
import re
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP, default
from email.utils import formatdate
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from export_pipelines.core.configuration import LinkHours
from export_pipelines.core.destinations import Carries, Delivery, DestinationSpec, Receipt, Target, TestStep
from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.notifying import LINE_NEEDED, is_line
from export_pipelines.core.ports import Attachment, Message

TIMEOUT_SECONDS = 30
_SPECIAL = '()<>[]:;@\\,"'  # of RFC 5322; would need quotes or start another address
_AUTHENTICATED = 235
_PERMANENT = 500  # SMTP replies from here on will not change by trying again
_EMAIL = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\".]+(?:\.[^@\s,;<>\".]+)+")
_MOST_RECIPIENTS = 50
_LONGEST = 320  # 64 octets, an @ and 255 (RFC 5321)


def is_address(text: str) -> bool:
    """Whether a text is one plain address that a header can hold."""
    return len(text) <= _LONGEST and _EMAIL.fullmatch(text) is not None and is_line(text)


def _checked_address(text: str) -> str:
    if not is_address(text):
        raise ValueError(f"{text!r} is not an email address")
    return text


def _checked_subject(text: str | None) -> str | None:
    if text is not None and not is_line(text):
        raise ValueError(LINE_NEEDED)
    return text


class EmailTarget(Target):
    """A mail with a link."""

    method: Literal["email"] = Field(description="`email`.")
    recipients: tuple[Annotated[str, Field(max_length=_LONGEST), AfterValidator(_checked_address)], ...] = Field(
        min_length=1,
        max_length=_MOST_RECIPIENTS,
        exclude=True,  # a delivery names its own recipient and nobody else
        description="Addresses; one mail each.",
    )
    subject: Annotated[str | None, AfterValidator(_checked_subject)] = Field(
        default=None, max_length=500, description="Default: our own."
    )
    body: str | None = Field(
        default=None,
        max_length=20_000,
        description="Text with `{{FILE_URL}}`, `{{NAME}}`, `{{ROWS}}`, `{{SIZE}}`, `{{EXPIRES_AT}}`; default: our own.",
    )
    link_ttl_hours: LinkHours = None
    include_attachment: bool = Field(
        default=False,
        description="The files, too, up to EXPORT_MAX_ATTACHMENT; refused for personal and sensitive columns unless "
        "the export is encrypted.",
    )


class SmtpSettings(BaseModel):
    """What the operator says of the mail server."""

    smtp_host: str | None = None
    smtp_port: int = 587
    smtp_security: Literal["none", "starttls", "tls"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_ca_file: Path | None = None
    from_email: str = "exports@localhost"
    from_name: str = "Export Pipelines"


class Mailer(Protocol):
    """Hands messages to a mail server."""

    def send(self, message: Message) -> str:
        """The server's receipt. `Unavailable` to try again, `RequestRejected` when it never will be accepted,
        `IntegrityViolation` when the mail does not hold its files as they are.
        """
        ...

    def self_test(self) -> Iterator[TestStep]:
        """Connect and sign in; sends nothing."""
        ...


@dataclass(frozen=True)
class EmailDestination:
    """One mail for each recipient; a repeat has the same Message-ID."""

    mailer: Mailer

    def require(self, recipient: str) -> None:
        """`RequestRejected` for what is no address."""
        _address(recipient)

    def deliver(self, delivery: Delivery) -> Receipt:
        if delivery.message is None:
            raise RequestRejected("there is nothing to write in the mail")
        return Receipt(remote_id=self.mailer.send(delivery.message), location=f"mailto:{delivery.recipient}")

    def probe(self, delivery: Delivery) -> Receipt | None:  # noqa: ARG002 - of the protocol
        """Nobody can ask a mail server what it has taken."""
        return None

    def self_test(self) -> Iterator[TestStep]:
        return self.mailer.self_test()


@dataclass(frozen=True, kw_only=True)
class SmtpMailer:
    """Sends one message a connection. ``security``: ``none``, or ``starttls`` or ``tls`` with a checked certificate."""

    host: str
    port: int
    security: str
    sender_email: str
    sender_name: str
    user: str | None = None
    password: str | None = None
    ca_file: Path | None = None  # trusted beside the system's authorities

    def send(self, message: Message) -> str:
        """The Message-ID, once the server has taken the mail; see `Mailer`."""
        recipient = _address(message.recipient)
        mail = self._composed(message, recipient)
        international = not recipient.username.isascii()
        # Not send_message, which writes ">From" where a line of the text starts with "From".
        content = mail.as_bytes(policy=SMTP.clone(utf8=international))
        _require_attached(content, message.attachments)
        options = ("SMTPUTF8", "BODY=8BITMIME") if international else ()
        with self._explained(), self._connected() as server:
            server.sendmail(self.sender_email, [recipient.addr_spec], content, mail_options=options)
        return str(mail["Message-ID"])

    def self_test(self) -> Iterator[TestStep]:
        """Connect as a delivery would, and end the conversation before a recipient is named."""
        name = f"Connect{' and sign in' if self.user else ''} to {self.host}:{self.port} ({self.security})"
        try:
            with self._explained(), self._connected() as server:
                server.ehlo_or_helo_if_needed()
        except ExportError as error:
            yield TestStep(name=name, problem=str(error))
            return
        yield TestStep(name=name)

    def _composed(self, message: Message, recipient: Address) -> EmailMessage:
        """`RequestRejected` for what no header can hold, line breaks above all: they would start another header."""
        mail = EmailMessage()
        try:
            mail["From"] = _address(self.sender_email, self.sender_name)
            mail["To"] = recipient
            mail["Subject"] = message.subject
            mail["Date"] = formatdate(usegmt=True)
            mail["Message-ID"] = f"<{message.message_id}>"
            mail["Auto-Submitted"] = "auto-generated"
            mail.set_content(message.body)
            for file in message.attachments:
                kind, params = _media_type(file)
                maintype, _, subtype = kind.partition("/")
                mail.add_attachment(
                    file.content, maintype=maintype, subtype=subtype, filename=file.filename, params=params
                )
        except ValueError as error:
            raise RequestRejected(f"the mail cannot be written: {error}; correct subject and text") from error
        return mail

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        if self.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=TIMEOUT_SECONDS, context=self._trust()
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            if self.security == "starttls":
                server.starttls(context=self._trust())
            if self.user:
                _log_in(server, self.user, self.password or "")
            yield server
            _say_goodbye(server)
        finally:
            server.close()

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.ca_file is not None:
            try:
                context.load_verify_locations(cafile=self.ca_file)
            except OSError as error:
                raise Unavailable(f"SMTP_CA_FILE {self.ca_file}: {error}; give a readable PEM file") from error
        return context

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Every failure of the conversation as `Unavailable` or, when repeating it is no use, `RequestRejected`."""
        try:
            yield
        except smtplib.SMTPRecipientsRefused as error:
            code, _ = next(iter(error.recipients.values()))
            raise self._refused(code, "the recipient") from error
        except smtplib.SMTPAuthenticationError as error:
            raise Unavailable(f"{self._where} refuses the login; check SMTP_USER and SMTP_PASSWORD") from error
        except smtplib.SMTPNotSupportedError as error:
            if "SMTPUTF8" in str(error):
                raise RequestRejected(f"{self._where} cannot send to addresses beyond ASCII") from error
            raise Unavailable(f"{self._where}: {error}; check SMTP_SECURITY and SMTP_PORT") from error
        except smtplib.SMTPResponseException as error:
            raise self._refused(error.smtp_code, "the message") from error
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(
                f"{self._where} has a certificate that is not trusted: {error.verify_message}; "
                "name its authority in SMTP_CA_FILE"
            ) from error
        except (smtplib.SMTPException, OSError) as error:
            raise Unavailable(f"{self._where} does not answer: {error}; check SMTP_HOST and SMTP_PORT") from error

    def _refused(self, code: int, what: str) -> RequestRejected | Unavailable:
        text = f"{self._where} refuses {what} with code {code}"
        return RequestRejected(text) if code >= _PERMANENT else Unavailable(text)

    @property
    def _where(self) -> str:
        return f"mail server {self.host}:{self.port}"


def _media_type(file: Attachment) -> tuple[str, dict[str, str]]:
    """``text/csv; charset=utf-8`` → its type and its parameters."""
    described = EmailMessage()
    described["Content-Type"] = file.media_type
    return described.get_content_type(), dict(described["Content-Type"].params)


def _require_attached(content: bytes, attachments: tuple[Attachment, ...]) -> None:
    """Open the mail as its receiver will: the same files, by name, type and every byte."""
    if not attachments:
        return
    read = BytesParser(policy=default).parsebytes(content)
    found = [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in read.iter_attachments()
    ]
    if found != [(file.filename, _media_type(file)[0], file.content) for file in attachments]:
        raise IntegrityViolation("the mail does not hold the files as they are; nothing was sent")


def _address(email: str, name: str = "") -> Address:
    """One mailbox; its international domain in the ASCII form that every server understands."""
    mailbox, _, domain = email.rpartition("@")
    if not mailbox or not domain or any(char in _SPECIAL or char.isspace() for char in mailbox + domain):
        raise RequestRejected(f"{email!r} is not one plain address to mail to")
    try:
        return Address(name, mailbox, domain if domain.isascii() else domain.encode("idna").decode())
    except ValueError as error:
        raise RequestRejected(f"{email!r}, {name!r}: {error}") from error


def _log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    if user.isascii() and password.isascii():
        server.login(user, password)
        return
    # smtplib knows only ASCII passwords; SASL PLAIN is UTF-8 (RFC 4616).
    server.ehlo_or_helo_if_needed()
    secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    code, reply = server.docmd("AUTH", f"PLAIN {secret}")
    if code != _AUTHENTICATED:
        raise smtplib.SMTPAuthenticationError(code, reply)


def _say_goodbye(server: smtplib.SMTP) -> None:
    """The mail is accepted by now; a server that is rude at the end must not make us send it twice."""
    try:
        server.quit()
    except (smtplib.SMTPException, OSError):
        return


def _open(settings: SmtpSettings) -> EmailDestination:
    if settings.smtp_host is None:
        raise Unavailable("no mail server is configured; set SMTP_HOST and FROM_EMAIL")
    password = settings.smtp_password
    return EmailDestination(
        SmtpMailer(
            host=settings.smtp_host,
            port=settings.smtp_port,
            security=settings.smtp_security,
            sender_email=settings.from_email,
            sender_name=settings.from_name,
            user=settings.smtp_user,
            password=password.get_secret_value() if password else None,
            ca_file=settings.smtp_ca_file,
        )
    )


def _recipients(target: EmailTarget) -> tuple[str, ...]:
    return tuple(dict.fromkeys(target.recipients))


def _notice_recipients(entry: Mapping[str, Any]) -> tuple[str, ...]:
    named = entry.get("recipients")
    found = [each for each in named if isinstance(each, str) and is_address(each)] if isinstance(named, list) else []
    return tuple(dict.fromkeys(found))[:_MOST_RECIPIENTS]


def _exposes_files(target: EmailTarget) -> str | None:
    return "include_attachment" if target.include_attachment else None


SPEC = DestinationSpec(
    name="email",
    title="Email",
    target=EmailTarget,
    example={"method": "email", "recipients": ["ann@example.com"], "subject": "{{NAME}} is ready"},
    carries=Carries.NOTICE,
    operator=SmtpSettings,
    open=_open,
    recipients=_recipients,
    exposes_files=_exposes_files,
    notice_recipients=_notice_recipients,
    limits="Files are attached only where asked for, up to `EXPORT_MAX_ATTACHMENT` together.",
)
