"""The command line, `export-pipelines`.

Exit codes: 0 ok, 1 unexpected failure, 2 bad request, 3 integrity violation, 4 unavailable, 5 cancelled, 6 signature
not trusted.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from export_pipelines.logs import configure_logs

# In the order of the help, and where each is in `export_pipelines.commands`: a function, or an app with subcommands.
COMMANDS = {
    "up": "service:up",
    "demo": "service:demo",
    "api": "service:api",
    "export": "exports:export",
    "bulk": "bulk:bulk",
    "estimate": "estimates:estimate",
    "convert": "conversions:convert",
    "verify": "verification:verify",
    "restore": "restoration:restore",
    "migrate": "service:migrate",
    "reset": "service:reset",
    "cleanup": "cleanup:clean_up",
    "sweep": "cleanup:sweep",
    "samples": "samples:app",
    "catalog": "catalog:app",
    "lake": "lake:app",
    "requests": "requests:app",
    "schedules": "schedules:app",
    "batches": "bulk:app",
    "destinations": "destinations:app",
    "keys": "keys:app",
    "audit": "audit:app",
    "signing": "signing:app",
}


class _Commands(TyperGroup):
    """Reads a command's module when that command is asked for: together they take seconds of a processor."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        found = getattr(import_module(f"export_pipelines.commands.{module}"), name)
        holder = typer.Typer(add_completion=False)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=cmd_name)
        else:
            holder.command(cmd_name)(found)
        return typer.main.get_group(holder).commands[cmd_name]


app = typer.Typer(
    cls=_Commands,
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


def main() -> None:
    """Parse and run."""
    configure_logs(as_json=False)
    app()
