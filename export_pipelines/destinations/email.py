"""Plain-text mail through an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formataddr, formatdate

from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.core.ports import Message

TIMEOUT_SECONDS = 30
_PERMANENT = 500  # SMTP replies from here on will not change by trying again


@dataclass(frozen=True, kw_only=True)
class SmtpMailer:
    """Sends one message a connection. ``security``: ``none``, ``starttls`` or ``tls``."""

    host: str
    port: int
    security: str
    sender_email: str
    sender_name: str
    user: str | None = None
    password: str | None = None

    def send(self, message: Message) -> str:
        """The server's receipt; see `export_pipelines.core.ports.Mailer`."""
        mail = EmailMessage()
        mail["From"] = formataddr((self.sender_name, self.sender_email))
        mail["To"] = message.recipient
        mail["Subject"] = message.subject
        mail["Date"] = formatdate(usegmt=True)
        mail["Message-ID"] = f"<{message.message_id}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.body)
        try:
            with self._connected() as server:
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            code, _ = error.recipients[message.recipient]
            raise self._refused(code, "the recipient") from error
        except smtplib.SMTPAuthenticationError as error:
            raise Unavailable(f"{self._where} refuses the login; check SMTP_USER and SMTP_PASSWORD") from error
        except smtplib.SMTPResponseException as error:
            raise self._refused(error.smtp_code, "the message") from error
        except (smtplib.SMTPException, OSError) as error:
            raise Unavailable(f"{self._where} does not answer: {error}") from error
        return mail["Message-ID"]

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_SECONDS, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            if self.security == "starttls":
                server.starttls(context=context)
            if self.user:
                server.login(self.user, self.password or "")
        except BaseException:
            server.close()
            raise
        return server

    def _refused(self, code: int, what: str) -> RequestRejected | Unavailable:
        text = f"{self._where} refuses {what} with code {code}"
        return RequestRejected(text) if code >= _PERMANENT else Unavailable(text)

    @property
    def _where(self) -> str:
        return f"mail server {self.host}:{self.port}"
