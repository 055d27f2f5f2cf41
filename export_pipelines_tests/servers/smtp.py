"""A real mail server: aiosmtpd in a process of its own, with a certificate authority made for the test."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from export_pipelines_tests.servers import smtp_service
from export_pipelines_tests.servers.processes import HOST, ServerProcess, accepts, await_ready, ports


@dataclass(frozen=True, kw_only=True)
class ReceivedMail:
    """One message as the server took it."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    login: str | None


@dataclass(frozen=True, kw_only=True)
class SmtpServer:
    """Where it answers and what it took."""

    port: int
    mails: Path
    host: str = HOST

    def received(self) -> list[ReceivedMail]:
        if not self.mails.exists():
            return []
        return [_mail(json.loads(line)) for line in self.mails.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority and a server certificate for loopback, as files."""

    ca: Path
    certificate: Path
    key: Path


@contextmanager
def running_smtp(
    folder: Path,
    *,
    security: str = "none",
    authority: Authority | None = None,
    user: str | None = None,
    password: str | None = None,
    smtputf8: bool = False,
) -> Iterator[SmtpServer]:
    """A server that speaks ``none``, ``starttls`` or ``tls``, and wants a login when ``user`` is given."""
    [port] = ports(1)
    server = SmtpServer(port=port, mails=folder / f"mails-{port}.jsonl")
    options = {
        "port": port,
        "mails": str(server.mails),
        "security": security,
        "certificate": str(authority.certificate) if authority else None,
        "key": str(authority.key) if authority else None,
        "user": user,
        "password": password,
        "smtputf8": smtputf8,
    }
    process = ServerProcess(f"smtp-{port}", [smtp_service.__file__, json.dumps(options)], folder)
    try:
        await_ready(lambda: accepts(port), [process])
        yield server
    finally:
        process.stop()


def make_authority(folder: Path) -> Authority:
    """Fresh keys, valid for an hour."""
    authority = Authority(ca=folder / "ca.pem", certificate=folder / "server.pem", key=folder / "server.key")
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    root = x509.BasicConstraints(ca=True, path_length=0)
    ca = _certificate(ca_name, ca_name, ca_key, root).sign(ca_key, hashes.SHA256())
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    server = _certificate(server_name, ca_name, server_key, loopback).sign(ca_key, hashes.SHA256())
    authority.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    authority.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    authority.key.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return authority


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    )


def _mail(row: dict[str, object]) -> ReceivedMail:
    content = str(row["content"]).encode("utf-8", "surrogateescape")
    message = message_from_bytes(content.replace(b"\r\n", b"\n"), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return ReceivedMail(
        sender=str(row["sender"]),
        recipients=list(row["recipients"]),  # type: ignore[call-overload]
        message=message,
        encrypted=bool(row["encrypted"]),
        login=row["login"],  # type: ignore[arg-type]
    )
