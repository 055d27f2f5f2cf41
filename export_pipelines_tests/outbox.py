"""Destinations for tests of the outbox, with the mailer or the settings that a test gives."""

from __future__ import annotations

from typing import Any

from export_pipelines.destinations.email import EmailDestination, Mailer
from export_pipelines.destinations.registry import Destinations, open_destinations
from export_pipelines.settings import Settings
from export_pipelines_tests.servers.smtp import SmtpServer


def mailing(mailer: Mailer) -> Destinations:
    """Mail by this mailer, and nothing else."""
    return Destinations(lambda _spec: EmailDestination(mailer))


def mailing_to(server: SmtpServer, **settings: Any) -> Destinations:
    """Mail through a real server, with whatever else is set up."""
    return open_destinations(
        Settings(
            SMTP_HOST=server.host,
            SMTP_PORT=server.port,
            SMTP_SECURITY="none",
            FROM_EMAIL="exports@example.com",
            FROM_NAME="Exports",
            **settings,
        )
    )
