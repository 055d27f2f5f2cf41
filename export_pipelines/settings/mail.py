"""The mail server, the sender, and what a mail may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from export_pipelines.settings.values import Port, SettingsGroup, Size, variable


class MailSettings(SettingsGroup):
    """Mail"""

    smtp_host: str | None = Field(
        default=None, validation_alias=variable("SMTP_HOST"), description="Unset: no mail is sent."
    )
    smtp_port: Port = Field(
        default=587, validation_alias=variable("SMTP_PORT"), description="587 for STARTTLS, 465 for TLS."
    )
    smtp_user: str | None = Field(default=None, validation_alias=variable("SMTP_USER"), description="Unset: no login.")
    smtp_password: SecretStr | None = Field(
        default=None, validation_alias=variable("SMTP_PASSWORD"), description="Goes with `SMTP_USER`."
    )
    smtp_security: Literal["none", "starttls", "tls"] = Field(
        default="starttls",
        validation_alias=variable("SMTP_SECURITY"),
        description="`none` together with a user is refused unless the server is on this machine.",
    )
    smtp_ca_file: Path | None = Field(
        default=None,
        validation_alias=variable("SMTP_CA_FILE"),
        description="PEM file of an authority to trust for the mail server, beside the system's.",
    )
    from_email: str = Field(
        default="exports@localhost", validation_alias=variable("FROM_EMAIL"), description="Sender's address."
    )
    from_name: str = Field(
        default="Export Pipelines", validation_alias=variable("FROM_NAME"), description="Sender's name."
    )
    max_attachment: Size = Field(
        default=10_000_000,
        validation_alias=variable("EXPORT_MAX_ATTACHMENT"),
        description="Most bytes of the files in a mail, such as `10MB`; larger ones stay behind the link. Coded for a "
        "mail they take a third more.",
    )

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> Self:
        local = self.smtp_host is None or self.smtp_host in ("localhost", "::1") or self.smtp_host.startswith("127.")
        if self.smtp_security == "none" and self.smtp_user and not local:
            raise ValueError(
                "SMTP_SECURITY=none would send SMTP_PASSWORD readable through the network; "
                "use starttls or tls, or leave SMTP_USER out"
            )
        return self
