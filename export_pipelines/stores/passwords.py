"""What the request table keeps in place of a password."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

SEALED = {"sealed": True}


def sealed_config(config: dict[str, Any]) -> tuple[dict[str, Any], SecretStr | None]:
    """The configuration without its password, and the password. One that is turned off is dropped."""
    encryption = config.get("encryption")
    if not isinstance(encryption, dict) or encryption.get("password") is None:
        return config, None
    password = encryption["password"]
    if encryption.get("enabled") is False:
        return {**config, "encryption": {"enabled": False}}, None
    if isinstance(password, SecretStr):
        password = password.get_secret_value()
    if not isinstance(password, str):
        return config, None  # the table refuses it
    return {**config, "encryption": {**encryption, "password": SEALED}}, SecretStr(password)


def is_sealed(config: dict[str, Any]) -> bool:
    """Whether the request needs a password that the table does not tell."""
    encryption = config.get("encryption")
    return isinstance(encryption, dict) and encryption.get("password") == SEALED


def with_password(config: dict[str, Any], password: str) -> dict[str, Any]:
    """The configuration with its password in clear, to be sealed for another owner."""
    return {**config, "encryption": {**config["encryption"], "password": password}}
