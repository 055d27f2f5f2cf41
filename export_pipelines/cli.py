"""The command line, `export-pipelines`.

Exit codes: 0 ok, 1 unexpected failure, 2 bad request, 3 integrity violation, 4 unavailable, 5 cancelled, 6 signature
not trusted.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from export_pipelines.commands import (
    audit,
    bulk,
    catalog,
    cleanup,
    conversions,
    estimates,
    exports,
    keys,
    lake,
    requests,
    restoration,
    schedules,
    service,
    signing,
    verification,
)
from export_pipelines.logs import configure_logs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals hold URLs with passwords
    help="Verified, tenant-isolated data exports from PostgreSQL. Exit codes: 0 ok, 1 unexpected failure, "
    "2 bad request, 3 integrity violation, 4 unavailable, 5 cancelled, 6 signature not trusted.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("export-pipelines"))
        raise typer.Exit


@app.callback()
def program(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """What all commands have in common."""


app.command()(service.up)
app.command()(service.demo)
app.command()(service.api)
app.command()(exports.export)
app.command()(bulk.bulk)
app.command()(estimates.estimate)
app.command()(conversions.convert)
app.command()(verification.verify)
app.command()(restoration.restore)
app.command()(service.migrate)
app.command()(service.reset)
app.command("cleanup")(cleanup.clean_up)
app.command()(cleanup.sweep)
app.add_typer(catalog.app, name="catalog")
app.add_typer(lake.app, name="lake")
app.add_typer(requests.app, name="requests")
app.add_typer(schedules.app, name="schedules")
app.add_typer(bulk.app, name="batches")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(signing.app, name="signing")


def main() -> None:
    """Parse and run."""
    configure_logs(as_json=False)
    app()
