"""What groups of settings are made of: their base, units, and values that are written in a form of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from export_pipelines.core.access import Role
from export_pipelines.core.addresses import Network, parse_networks
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.rates import Rate, parse_rate


class SettingsGroup(BaseSettings):
    """Settings that belong together. The first line of the docstring is their heading in `docs/settings.md`."""

    # Only the aliases count: by field name, HOME or USER of any shell would be taken for ours.
    model_config = SettingsConfigDict(env_file=None, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    # Whether Dagster's processes are told them: least privilege keeps those of the API and of the shell from runs.
    read_by_runs: ClassVar[bool] = True


def variable(name: str) -> AliasChoices:
    """The environment variable that a setting is read from."""
    return AliasChoices(name)


@dataclass(frozen=True)
class Unit:
    """What a number counts, for the documentation."""

    name: str


Seconds = Annotated[int, Unit("seconds")]
Days = Annotated[int, Unit("days")]
Port = Annotated[int, Field(ge=1, le=65_535)]

_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
LEAST_SIZE_BYTES = 10_000  # the documents of a package alone need some


def _octets(value: object) -> object:
    """``500MB``, ``1.5 GiB`` or a plain number of bytes."""
    if value is None or isinstance(value, int):
        return value
    found = _SIZE.fullmatch(str(value))
    if found is None or found[2].upper() not in _SIZE_UNITS:
        raise ValueError("must be bytes or a size such as 500MB, 2GB or 512MiB")
    size = int(float(found[1]) * _SIZE_UNITS[found[2].upper()])
    if size < LEAST_SIZE_BYTES:
        raise ValueError(f"must be at least {LEAST_SIZE_BYTES:,} bytes")
    return size


Size = Annotated[int, BeforeValidator(_octets), Unit("bytes")]
OptionalSize = Annotated[int | None, BeforeValidator(_octets), Unit("bytes")]


def _rate(value: object) -> object:
    return parse_rate(value) if isinstance(value, str) else value


OptionalRate = Annotated[Rate | None, NoDecode, BeforeValidator(_rate)]


def _networks(value: object) -> object:
    return parse_networks(value) if isinstance(value, str) else value


Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]


def _roles(value: object) -> object:
    """``clinic_admin=admin,staff=member``: the host's names for roles → ours."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    roles = {theirs.strip(): ours.strip() for theirs, _, ours in pairs}
    known = tuple(Role)
    if not all(theirs and ours in known for theirs, ours in roles.items()):
        raise ValueError(f"must be pairs such as clinic_admin=admin,staff=member with roles of {', '.join(known)}")
    return roles


Roles = Annotated[dict[str, Role], NoDecode, BeforeValidator(_roles)]


def _postgresql(url: SecretStr | None) -> SecretStr | None:
    if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL such as postgresql://user:password@host:5432/database")
    return url


PostgresUrl = Annotated[SecretStr | None, AfterValidator(_postgresql)]


class NamedFolders(dict[str, Path]):
    """Names of folders and where they are; as text in the form that `named_folders` reads."""

    def __str__(self) -> str:
        return ",".join(f"{name}={path}" for name, path in self.items())


_FOLDER_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


def named_folders(value: object) -> object:
    """``nas=/mnt/nas,archive=/srv/archive``: names of folders → absolute paths."""
    if value is None:
        return {}
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    folders = {name.strip(): Path(path.strip()) for name, _, path in pairs}
    sound = all(_FOLDER_NAME.fullmatch(name) and path.is_absolute() for name, path in folders.items())
    if not sound or len(folders) != len(pairs):
        raise ValueError(
            "must be pairs such as nas=/mnt/nas,archive=/srv/archive: names of letters, digits, - and _, each once, "
            "with absolute paths"
        )
    return folders


def _keys_address(value: str | None) -> str | None:
    """Whoever answers at this address makes tokens, so nobody between may: TLS, or this machine."""
    if value is None:
        return None
    address = urlsplit(value)
    local = address.scheme == "http" and address.hostname in ("localhost", "127.0.0.1", "::1")
    if not address.hostname or not (address.scheme == "https" or local):
        raise ValueError("must be an https:// URL; http:// only of this machine")
    return value


KeysAddress = Annotated[str | None, AfterValidator(_keys_address)]


def required(value: SecretStr | None, name: str) -> str:
    """The value in clear, or `RequestRejected` that says how to set it."""
    if value is None:
        raise RequestRejected(
            "is not set; give a postgresql:// URL, or start through `export-pipelines up`, which brings its own server",
            field=name,
        )
    return value.get_secret_value()
