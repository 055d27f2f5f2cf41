"""``audit list|verify|head``: who did what, and proof that the log still says so."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table as Grid

from export_pipelines.commands import output
from export_pipelines.commands.control import open_control
from export_pipelines.core.errors import RequestRejected
from export_pipelines.stores.audit import AuditEntry, AuditFilter, AuditLog, as_csv, as_ndjson
from export_pipelines.stores.audit_chain import parse_head, verify_chain

app = typer.Typer(no_args_is_help=True, help="The audit log: read it, hand it out, prove it.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class OutputFormat(StrEnum):
    TABLE = "table"
    NDJSON = "ndjson"
    CSV = "csv"


@app.command("list")
def list_entries(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as export.create.")] = None,
    target: Annotated[str | None, typer.Option(help="Only about this id.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="First day or instant, included; UTC.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Day or instant after the last, not included; UTC.")] = None,
    format_: Annotated[
        OutputFormat, typer.Option("--format", help="ndjson and csv print all, oldest first.")
    ] = OutputFormat.TABLE,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many lines of the table.")] = 20,
) -> None:
    """Newest first as a table, or everything as NDJSON or CSV."""
    with output.reported(), open_control() as control:
        wanted = AuditFilter(
            tenant_id=tenant,
            user_id=user,
            action=action,
            target_id=target,
            since=_instant(from_, "--from"),
            until=_instant(to, "--to"),
        )
        log = AuditLog(control)
        if format_ is OutputFormat.TABLE:
            output.out.print(_table(log.list(wanted, limit=limit)))
        else:
            sys.stdout.writelines((as_csv if format_ is OutputFormat.CSV else as_ndjson)(log.stream(wanted)))


@app.command()
def verify(
    head: Annotated[str | None, typer.Option(help="ID:HASH of `audit head`, noted elsewhere before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compute the chain of hashes again; exit 3 and the first broken entry when it does not hold.

    Only with a noted --head does it show that the end was cut off or that all of it was written anew.
    """
    with output.reported(as_json=as_json), open_control() as control:
        found = verify_chain(control, noted=parse_head(head) if head else None)
        if as_json:
            output.say_json({"valid": found.valid, **asdict(found)})
        elif found.broken is not None:
            output.say(
                f"NOT VALID: {found.broken.message} ({found.broken.damage}); {found.entries:,} entries before hold"
            )
        else:
            output.say(f"valid: {found.entries:,} entries, head {found.head or 'none'}")
        if not found.valid:
            raise typer.Exit(output.INTEGRITY)


@app.command()
def head() -> None:
    """Print ID:HASH of the newest entry, to be noted where nobody can change it."""
    with output.reported(), open_control() as control:
        newest = AuditLog(control).head()
        if newest is None:
            raise RequestRejected("the audit log is empty")
        typer.echo(str(newest))


def _table(entries: list[AuditEntry]) -> Grid:
    grid = Grid("id", "at", "tenant", "user", "action", "target", "outcome", "ip", "detail")
    for entry in entries:
        target = f"{entry.target_type} {entry.target_id}" if entry.target_id else ""
        words = (entry.id, entry.at[:19], entry.tenant_id or "", entry.user_id or "", entry.action, target)
        grid.add_row(*(output.plain(word) for word in (*words, entry.outcome, entry.ip or "", entry.detail)))
    return grid


def _instant(text: str | None, option: str) -> dt.datetime | None:
    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestRejected(f"{text!r} is no day or instant such as 2026-03-01", field=option) from error
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
