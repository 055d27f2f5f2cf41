"""Encrypting an archive on its way into the store, and opening one: which method is written and read by what.

Writers and readers are in `export_pipelines.archives`; the two share no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyrage
from pydantic import SecretStr

from export_pipelines.archives.age_reading import (
    decrypt_for_identities,
    decrypt_for_passphrase,
    is_age,
    takes_passphrase,
)
from export_pipelines.archives.age_writing import age_for_passphrase, age_for_recipients, recipients_of
from export_pipelines.archives.zip_reading import read_member
from export_pipelines.archives.zip_structure import STORED, ZipMember, read_structure
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.model import Sealing
from export_pipelines.packaging.archive import Member, write_hiding_zip, write_zip

INNER_NAME = "package.zip"  # the one name that an archive with hidden names shows
MEDIA_TYPES = {"AES256": "application/zip", "age": "application/octet-stream"}
EXTENSIONS = {"AES256": "zip", "age": "zip.age"}


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What opens an archive; a password is shown by nobody who prints this."""

    password: SecretStr | None = None
    identities: tuple[Any, ...] = ()
    ask: Callable[[], SecretStr | None] = lambda: None  # for a password, once it is known to be needed

    def require_password(self) -> bytes:
        password = self.password or self.ask()
        if password is None:
            raise RequestRejected(
                "is needed for this archive; give --password-file, set EXPORT_PASSWORD, or type it at a terminal",
                field="password",
            )
        return password.get_secret_value().encode()


class Lock:
    """How one archive is encrypted. `keys` open what `write` wrote, so that it can be read back at once."""

    def __init__(self, sealing: Sealing, password: SecretStr | None) -> None:
        """`RequestRejected` for a recipient that is no public key."""
        self._sealing = sealing
        # With the secret half of a recipient's key elsewhere, one of our own, forgotten with this object, reads back.
        witness = pyrage.x25519.Identity.generate() if sealing.recipients else None
        self._recipients = recipients_of(sealing.recipients)
        if witness is not None:
            self._recipients.append(witness.to_public())
        self.keys = Keys(password=password, identities=(witness,) if witness is not None else ())

    def write(self, sink: BinaryIO, members: Sequence[Member], *, folder: str) -> None:
        """The encrypted archive, streamed."""
        if self._sealing.method == "age":
            with self._age(sink) as plain:
                write_zip(plain, members, folder=folder)
        elif self._sealing.hide_names:
            password = self.keys.require_password()
            write_hiding_zip(sink, members, folder=folder, password=password, inner_name=INNER_NAME)
        else:
            write_zip(sink, members, folder=folder, password=self.keys.require_password())

    @contextmanager
    def _age(self, sink: BinaryIO) -> Iterator[BinaryIO]:
        if self._recipients:
            with age_for_recipients(sink, self._recipients) as plain:
                yield plain
        else:
            with age_for_passphrase(sink, self.keys.require_password()) as plain:
                yield plain


def hides_archive(members: Sequence[ZipMember]) -> bool:
    """Whether an archive is nothing but another one, encrypted."""
    return [(member.name, member.encrypted) for member in members] == [(INNER_NAME, True)]


def open_sealed(path: Path, keys: Keys, target: BinaryIO) -> None:
    """Write the plain archive inside an age file, or inside a ZIP that hides it, to ``target``.

    It is never larger than the encrypted one. `RequestRejected` when the keys are missing or wrong,
    `IntegrityViolation` when the archive was changed, or is none of the two.
    """
    if not is_age(path):
        _open_zip(path, keys, target)
    elif takes_passphrase(path):
        decrypt_for_passphrase(path, target, keys.require_password())
    elif not keys.identities:
        raise RequestRejected("is needed for this archive; give the file with your private key", field="--identity")
    else:
        decrypt_for_identities(path, target, keys.identities)


def _open_zip(path: Path, keys: Keys, target: BinaryIO) -> None:
    members = read_structure(path)
    if not hides_archive(members):
        raise IntegrityViolation(f"{path} hides no archive")
    if members[0].method != STORED:  # this program never deflates it, and it could unpack to any size
        raise IntegrityViolation(f"{path} holds {INNER_NAME} deflated, not as this program writes it")
    target.writelines(read_member(path, members[0], keys.require_password()))
