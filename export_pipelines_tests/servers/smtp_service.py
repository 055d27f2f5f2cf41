"""Runs as a script: an aiosmtpd server whose answers depend on the recipient, its mails appended to a file.

Options come as one JSON object: port, mails (file), security, certificate, key, user, password.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

# First part of a recipient's address → what the server says to it.
REPLIES = {"later": "451 4.7.1 greylisted, try again", "never": "550 5.1.1 no such mailbox"}


class Mailbox:
    """Keeps what arrives; refuses by name of the recipient or by a word in the text."""

    def __init__(self, mails: Path) -> None:
        self._mails = mails

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        refusal = REPLIES.get(address.partition("@")[0])
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = bytes(envelope.content or b"")
        if b"refuse-this-text" in content:
            return "554 5.7.1 content rejected"
        mail = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "content": content.decode("utf-8", "surrogateescape"),
            "encrypted": session.ssl is not None,
            "login": session.auth_data,
        }
        with self._mails.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(json.dumps(mail) + "\n")
        return "250 2.0.0 queued"


class GrumpySMTP(SMTP):
    """Takes the mail, then is rude at the goodbye to some recipients: answers 500, or hangs up."""

    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        manners = getattr(self.session, "manners", "")
        if manners == "grumpy":
            await self.push("500 5.5.1 what?")
        elif manners == "hangs-up":
            self.transport.abort()
        else:
            await super().smtp_QUIT(arg)

    async def smtp_RCPT(self, arg: str) -> None:  # noqa: N802
        for manners in ("grumpy", "hangs-up"):
            if arg and f"<{manners}@" in arg:
                self.session.manners = manners  # type: ignore[union-attr]
        await super().smtp_RCPT(arg)


def authenticator(user: str, password: str) -> Any:
    def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: Any) -> AuthResult:
        right = isinstance(login, LoginPassword) and (login.login, login.password) == (user.encode(), password.encode())
        # handled=False makes the server answer 535; without it a wrong password leaves the client waiting.
        return AuthResult(success=right, handled=False, auth_data=user if right else None)

    return authenticate


async def serve(options: dict[str, Any]) -> None:
    context = None
    if options["security"] != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["certificate"], options["key"])
    starttls = options["security"] == "starttls"
    settings: dict[str, Any] = {"hostname": "test", "enable_SMTPUTF8": options.get("smtputf8", False)}
    if starttls:
        settings |= {"tls_context": context, "require_starttls": True}
    if options.get("user"):
        settings |= {
            "authenticator": authenticator(options["user"], options["password"]),
            "auth_required": True,
            "auth_require_tls": starttls,
        }
    mailbox = Mailbox(Path(options["mails"]))
    server = await asyncio.get_running_loop().create_server(
        lambda: GrumpySMTP(mailbox, **settings), "127.0.0.1", options["port"], ssl=None if starttls else context
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
