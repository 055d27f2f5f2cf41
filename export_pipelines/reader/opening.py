"""`read`: a package as folder, archive or link, with what opens it and whose signature counts."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from export_pipelines.archives.age_reading import identities_in
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.signing import PublicKey, SignatureVerdict
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.packaging.key_sets import parse_key_set, read_key_set
from export_pipelines.pipeline.verification.verify import VerifiedPackage, verified_package
from export_pipelines.reader.download import download
from export_pipelines.reader.package import Package

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # two letters at least: C:// is a drive
_ARGUMENTS = {"PACKAGE": "package", "--keys": "keys", "--identity": "identity"}  # as the command line calls them
_MOST_PROBLEMS = 5  # in one message


def read(
    package: str | os.PathLike[str],
    password: str | None = None,
    keys: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    identity: str | os.PathLike[str] | None = None,
    link_password: str | None = None,
    api_key: str | None = None,
) -> Package:
    """Open a package and check every byte of it; nothing of it can be read before.

    ``package`` is a folder, a ``.zip``, ``.zip.age`` or ``manifest.json``, or an https address: of a download link, of
    one file behind it, or of ``…/jobs/{id}/download`` with an ``api_key``. ``password``, or ``identity``, a file with a
    private key, opens an encrypted one; ``link_password`` is the link's own.

    ``keys`` are the public keys that may have signed, as a JSON Web Key Set: its file, or the parsed document. With
    them, a package that none of them signed is refused; without them, `Package.signature` says who claims to have.

    `RequestRejected` when there is no package or a password or key is missing or wrong, `IntegrityViolation` when it is
    damaged or not trusted, `Unavailable` when an address does not answer or the disk has no room.
    """
    with _named_as_arguments(), ExitStack() as stack:
        trusted = _trusted(keys)
        opening = Keys(
            password=SecretStr(password) if password is not None else None,
            identities=_identities(identity),
            ask=_missing_password,
        )
        path = _local(package, stack, link_password=link_password, api_key=api_key)
        verified = stack.enter_context(verified_package(path, find_format, keys=opening, trusted=trusted))
        shown = _shown(package)
        _require_whole(verified, shown)
        signature = verified.found.signature
        if trusted is not None and not signature.trusted:
            raise IntegrityViolation(f"{shown} is not signed by any of the given keys; {_words_of(signature)}")
        assert verified.content is not None  # a valid one was opened
        return Package(verified.content, signature, stack.pop_all())


def _local(
    package: str | os.PathLike[str], stack: ExitStack, *, link_password: str | None, api_key: str | None
) -> Path:
    if isinstance(package, str) and _URL.match(package):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="export-pipelines-download-"))
        return download(package, Path(folder), link_password=link_password, api_key=api_key)
    path = Path(package)
    if not path.exists():
        raise RequestRejected(f"{path} does not exist", field="package")
    return path


def _require_whole(verified: VerifiedPackage, name: str) -> None:
    problems = verified.found.problems
    if problems:
        more = f"; and {len(problems) - _MOST_PROBLEMS} problems more" if len(problems) > _MOST_PROBLEMS else ""
        raise IntegrityViolation(
            f"{name} is damaged: {'; '.join(problems[:_MOST_PROBLEMS])}{more}; get it again from where it came"
        )


def _shown(package: str | os.PathLike[str]) -> str:
    """A package's name for messages: a link's address is a secret."""
    return "the package" if isinstance(package, str) and _URL.match(package) else os.fspath(package)


def _words_of(signature: SignatureVerdict) -> str:
    return f"signature: {signature.status}{f', key {signature.key_id}' if signature.key_id else ''}"


def _trusted(keys: str | os.PathLike[str] | Mapping[str, Any] | None) -> dict[str, PublicKey] | None:
    if keys is None:
        return None
    if isinstance(keys, Mapping):
        return parse_key_set(json.dumps(dict(keys)).encode(), "the document")
    return read_key_set(Path(keys))


def _identities(file: str | os.PathLike[str] | None) -> tuple[Any, ...]:
    if file is None:
        return ()
    try:
        return tuple(identities_in(Path(file).read_text(encoding="utf-8"), os.fspath(file)))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRejected(f"{os.fspath(file)} cannot be read as a key file", field="identity") from error


def _missing_password() -> SecretStr | None:
    raise RequestRejected("is needed for this package, which is encrypted; give password=…", field="password")


@contextmanager
def _named_as_arguments() -> Iterator[None]:
    """The parts below name options of the command line; here they are arguments."""
    try:
        yield
    except RequestRejected as error:
        if error.field not in _ARGUMENTS:
            raise
        raise RequestRejected(error.message, field=_ARGUMENTS[error.field]) from error
