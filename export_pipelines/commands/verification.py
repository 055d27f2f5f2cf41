"""``verify``: the check of any package, by anybody who has it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from export_pipelines.archives.age_reading import identities_in
from export_pipelines.commands import output
from export_pipelines.commands.passwords import PasswordFile, asked_password, given_password
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.signing import SignatureStatus, SignatureVerdict
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.packaging.key_sets import read_key_set
from export_pipelines.pipeline.verification.findings import Check, Depth, Verification
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.settings import load_settings

Identities = Annotated[
    list[Path] | None, typer.Option(help="File with a private key for age, also an SSH key; repeatable.")
]
SigningKeys = Annotated[
    Path | None, typer.Option(help="JSON Web Key Set with the keys that may have signed; default: not checked.")
]


def verify(
    package: Annotated[Path, typer.Argument(help="Folder, .zip, .age or manifest.json of a package.")],
    password_file: PasswordFile = None,
    identity: Identities = None,
    keys: SigningKeys = None,
    unopened: Annotated[
        bool, typer.Option("--unopened", help="Check an encrypted package from outside, without its key.")
    ] = False,
    depth: Annotated[Depth, typer.Option(help="How closely to look.")] = Depth.FULL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a package offline: checksums, counts, schema, totals, signature.

    Exit 0 valid, 2 not a package, 3 damaged, 6 with --keys and not signed by one of them. An encrypted package needs
    its password or key; a missing or wrong one is exit 2.
    """
    with output.reported(as_json=as_json):
        started = time.monotonic()
        opening = Keys(
            password=given_password(password_file, load_settings()),
            identities=identities_of(identity),
            ask=lambda: asked_password(new=False),
        )
        trusted = read_key_set(keys) if keys is not None else None
        found = verify_package(package, find_format, keys=opening, trusted=trusted, unopened=unopened, depth=depth)
        if as_json:
            output.say_json({**asdict(found), "valid": found.valid, "trusted": found.signature.trusted})
        else:
            _tell(found, depth, seconds=time.monotonic() - started)
        if not found.valid:
            raise typer.Exit(output.INTEGRITY)
        if trusted is not None and not found.signature.trusted:
            raise typer.Exit(output.SIGNATURE)


def _tell(found: Verification, depth: Depth, *, seconds: float) -> None:
    for problem in found.problems:
        output.say(f"  problem: {problem}")
    output.say(f"  signature: {signature_line(found.signature)}")
    verdict = "valid" if found.valid else "NOT VALID"
    how = f"{found.rows:,} rows re-read" if Check.ROWS in found.checks else f"{depth} only"
    how = how if found.opened else "not opened"
    output.say(f"{verdict}: export {found.export_id}, {found.files} files, {how} in {seconds:.1f} s")


def signature_line(verdict: SignatureVerdict) -> str:
    """Who signed, in words."""
    match verdict.status:
        case SignatureStatus.VALID:
            return f"signed by {verdict.key_id}"
        case SignatureStatus.UNCHECKED:
            return f"signed by {verdict.key_id}, not checked (give --keys)"
        case SignatureStatus.MISSING:
            return "none"
        case SignatureStatus.WRONG:
            return "WRONG: the manifest is not what was signed"
        case SignatureStatus.UNKNOWN_KEY:
            return f"by {verdict.key_id}, WHICH IS NOT AMONG THE KEYS"
        case SignatureStatus.REVOKED_KEY:
            return f"by {verdict.key_id}, WHICH IS REVOKED"


def identities_of(files: list[Path] | None) -> tuple[Any, ...]:
    """The private keys in files."""
    return tuple(key for file in files or [] for key in _identities(file))


def _identities(file: Path) -> list[Any]:
    try:
        return identities_in(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRejected(f"{file} cannot be read as a key file", field="--identity") from error
