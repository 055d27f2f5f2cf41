"""``restore``: a migration package into an empty database."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from export_pipelines.commands import output
from export_pipelines.commands.passwords import PasswordFile, asked_password, given_password
from export_pipelines.commands.verification import Identities, SigningKeys, identities_of, signature_line
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.packaging.key_sets import read_key_set
from export_pipelines.pipeline.restoration.restore import Restoration, restore_package
from export_pipelines.pipeline.verification.unpacking import opened
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.settings import load_settings
from export_pipelines.sources.session import describe


def restore(
    package: Annotated[Path, typer.Argument(help="Folder, .zip, .age or manifest.json of a migration package.")],
    url: Annotated[str, typer.Option(help="postgresql:// URL of the database to restore into.")],
    schema: Annotated[str | None, typer.Option(help="Schema to restore into; default: the package's.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify the package, make tables and constraints, and take them back.")
    ] = False,
    password_file: PasswordFile = None,
    identity: Identities = None,
    keys: SigningKeys = None,
    trust_unsigned: Annotated[
        bool, typer.Option("--trust-unsigned", help="Restore without a check of who signed the package.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify a migration package, then make its tables in an empty schema, load and compare, all in one transaction.

    Give --keys, or --trust-unsigned where you know whose package it is. Only statements that packages are made of are
    run, and expressions that only compute; use a login that is no superuser. Exit 2 the target is not empty or lacks
    something, or the package has other statements, 3 the package is damaged or the rows do not arrive as they were, 4
    the target does not answer, 6 with --keys and not signed by one of them. A failure leaves the target as it was.
    """
    with output.reported(as_json=as_json):
        _require_trust(keys, trust_unsigned=trust_unsigned)
        started = time.monotonic()
        opening = Keys(
            password=given_password(password_file, load_settings()),
            identities=identities_of(identity),
            ask=lambda: asked_password(new=False),
        )
        trusted = read_key_set(keys) if keys is not None else None
        with opened(package, opening) as folder:
            found = verify_package(folder, find_format, trusted=trusted)
            if not found.valid:
                raise IntegrityViolation(f"the package is not what its manifest says: {'; '.join(found.problems)}")
            if trusted is not None and not found.signature.trusted:
                output.err.print(output.plain(f"nothing was restored: signature {signature_line(found.signature)}"))
                raise typer.Exit(output.SIGNATURE)
            done = restore_package(folder, url, find_format, schema=schema, dry_run=dry_run, warned=_warn)
        _tell(done, url, seconds=time.monotonic() - started, as_json=as_json)


def _require_trust(keys: Path | None, *, trust_unsigned: bool) -> None:
    """Somebody has to answer for what is run in the target: a key, or whoever gives the command."""
    if keys is None and not trust_unsigned:
        raise RequestRejected(
            "is missing: give the signing keys that you trust (`export-pipelines signing public` where the package was "
            "made), or --trust-unsigned when you know whose package it is",
            field="--keys",
        )
    if keys is not None and trust_unsigned:
        raise RequestRejected("says the opposite of --keys; give one of them", field="--trust-unsigned")


def _warn(warning: str) -> None:
    output.err.print(output.plain(f"warning: {warning}"))


def _tell(done: Restoration, url: str, *, seconds: float, as_json: bool) -> None:
    if as_json:
        output.say_json({**asdict(done), "rows": done.rows})
        return
    for table, rows in done.tables.items():
        output.say(f"  {table:44} {rows:>12,} rows")
    for left in done.left_out:
        output.say(f"  left out: {f'{left.table}: ' if left.table else ''}{left.what}, {left.reason}")
    where = f"schema {done.schema} of {describe(url)}"
    if done.dry_run:
        output.say(f"{done.rows:,} rows would be restored into {where}; nothing was changed")
    else:
        output.say(f"{done.rows:,} rows restored into {where} and compared with the manifest in {seconds:.1f} s")
