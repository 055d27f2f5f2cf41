"""Where commands get a password from: a file, ``EXPORT_PASSWORD`` or a terminal; never an argument, which is public."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from export_pipelines.core.errors import RequestRejected
from export_pipelines.settings import Settings

_MOST_BYTES = 4096
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", help="File whose first line is the password; default: EXPORT_PASSWORD, or asked."),
]


def given_password(file: Path | None, settings: Settings) -> SecretStr | None:
    """The password of the file, else of the environment, else None."""
    if file is None:
        return settings.password
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES)
        return SecretStr(content.decode().splitlines()[0] if content else "")
    except OSError as error:
        raise RequestRejected(f"{file} cannot be read: {error.strerror}", field="--password-file") from error
    except UnicodeDecodeError as error:
        raise RequestRejected(f"{file} is not a text", field="--password-file") from error


def asked_password(*, new: bool) -> SecretStr | None:
    """The password from the terminal, a new one typed twice; None where nobody can be asked."""
    if not sys.stdin.isatty():
        return None
    return SecretStr(typer.prompt("Password", hide_input=True, confirmation_prompt=new, err=True))
