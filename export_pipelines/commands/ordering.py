"""The options of ``export``, ``estimate`` and ``convert``, and as the JSON of a request, in the words of the API."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from export_pipelines.commands.passwords import asked_password, given_password
from export_pipelines.core.configuration import MANY_FILES
from export_pipelines.core.errors import RequestRejected
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.settings import Settings

NULL = r"\N"  # as in PostgreSQL's COPY
Tenant = Annotated[str, typer.Option(help="Id of the tenant.")]
Tables = Annotated[str, typer.Option(help="Tables, separated by commas; may be left out with --module.")]
Modules = Annotated[
    list[str] | None, typer.Option("--module", help="All tables of this group that are not named anyway; repeatable.")
]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help='table:column=value,value: only rows with one of these; "a,b" in quotes is one value, \\N is NULL; '
        "repeatable.",
    ),
]
Aggregates = Annotated[
    list[str] | None,
    typer.Option("--aggregate", help="table:hourly, daily, weekly or monthly: the table's measures; repeatable."),
]
Format = Annotated[str, typer.Option("--format", help="csv, json, ndjson, parquet, xlsx or xml.")]
From = Annotated[str | None, typer.Option("--from", help="First day or instant, included.")]
To = Annotated[str | None, typer.Option("--to", help="Day or instant after the last, not included.")]
Fields = Annotated[list[str] | None, typer.Option(help="table:column,column; repeat for several tables.")]
Options = Annotated[list[str] | None, typer.Option(help="name=value, for example json_pretty=true; repeatable.")]
Title = Annotated[str, typer.Option(help="Title of the export.")]
Email = Annotated[list[str] | None, typer.Option(help="Send a link to this address; repeatable.")]
IncludeDeleted = Annotated[bool, typer.Option(help="Also rows that are marked as deleted.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Compression = Annotated[str, typer.Option(help=f"{', '.join(['none', *CODECS])} for each file, or zip.")]
Split = Annotated[str | None, typer.Option(help="month, week or size: several files a table.")]
MaxSize = Annotated[float | None, typer.Option(help="Most megabytes of a finished file.")]
ManyFiles = Annotated[bool, typer.Option("--many-files", help=f"Confirms a split into more than {MANY_FILES} files.")]
Encrypt = Annotated[str | None, typer.Option(help="aes256 (a ZIP with a password) or age.")]
Recipients = Annotated[list[str] | None, typer.Option(help="Public key for age; repeatable.")]


def export_order(
    *,
    tables: str,
    modules: list[str] | None,
    format_: str,
    dates: tuple[str | None, str | None],
    fields: list[str] | None,
    filters: list[str] | None,
    aggregates: list[str] | None,
    compression: str,
    split: str | None,
    max_size_mb: float | None,
    many_files: bool,
    encryption: dict[str, Any] | None,
    option: list[str] | None,
    name: str,
    email: list[str] | None,
    include_deleted: bool,
) -> dict[str, Any]:
    """The configuration that the options describe."""
    shared: dict[str, Any] = {"include_deleted": include_deleted}
    if any(dates):
        shared["date_range"] = {"start": dates[0], "end": dates[1]}
    choices: dict[str, dict[str, Any]] = {
        "--fields": dict(_field_choice(text) for text in fields or []),
        "--filter": _filter_choices(filters or []),
        "--aggregate": dict(_aggregate_choice(text) for text in aggregates or []),
    }
    sources = data_sources(tables, choices, shared, required=not modules)
    selected: dict[str, Any] = {"data_sources": sources} if sources else {}
    if modules:
        selected |= {"modules": modules, "filters": shared}
    return {
        "name": name,
        **selected,
        "format": format_,
        "compression": compression,
        "options": dict(format_option(text) for text in option or []),
        "split_files": split_files(split, max_size_mb, many_files=many_files),
        "encryption": encryption,
        "delivery": [{"method": "email", "recipients": email}] if email else [],
    }


def require_tenant_id(tenant: str) -> None:
    if not tenant.strip():
        raise RequestRejected("is empty; give the id of a tenant", field="--tenant")


def data_sources(
    tables: str, choices: dict[str, dict[str, Any]], shared: dict[str, Any], *, required: bool
) -> list[dict[str, Any]]:
    """The named tables with what the options choose of them."""
    named = [table.strip() for table in tables.split(",") if table.strip()]
    if required and not named:
        raise RequestRejected("is empty; name at least one table, or a --module", field="--tables")
    for option, chosen in choices.items():
        unknown = chosen.keys() - set(named)
        if unknown:
            raise RequestRejected(f"names {', '.join(sorted(unknown))}, which is not in --tables", field=option)
    return [
        {
            "type": table,
            "filters": {**choices["--filter"].get(table, {}), **shared},
            "fields": choices["--fields"].get(table),
            "aggregation": choices["--aggregate"].get(table),
        }
        for table in named
    ]


def _field_choice(text: str) -> tuple[str, list[str]]:
    table, separator, columns = text.partition(":")
    if not separator or not columns:
        raise RequestRejected(f"{text!r} is not table:column,column", field="--fields")
    return table.strip(), [column.strip() for column in columns.split(",")]


def _filter_choices(texts: list[str]) -> dict[str, dict[str, list[str | None]]]:
    """Table → column → values; the same column may be given several times."""
    chosen: dict[str, dict[str, list[str | None]]] = {}
    for text in texts:
        target, separator, values = text.partition("=")
        table, colon, column = target.partition(":")
        if not separator or not colon or not column.strip():
            raise RequestRejected(f"{text!r} is not table:column=value,value", field="--filter")
        wanted = chosen.setdefault(table.strip(), {}).setdefault(column.strip(), [])
        wanted += [None if value == NULL else value for value in _split(values)]
    return chosen


def _split(values: str) -> list[str]:
    try:
        (line,) = csv.reader([values], strict=True) if values else [[""]]
    except csv.Error as error:
        raise RequestRejected(f"{values!r} cannot be split at its commas: {error}", field="--filter") from error
    return line


def _aggregate_choice(text: str) -> tuple[str, str]:
    table, separator, period = text.partition(":")
    if not separator or not period:
        raise RequestRejected(f"{text!r} is not table:daily", field="--aggregate")
    return table.strip(), period.strip()


def format_option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise RequestRejected(f"{text!r} is not name=value", field="--option")
    return name.strip(), {"true": True, "false": False}.get(value.lower(), value)


def split_files(split: str | None, max_size_mb: float | None, *, many_files: bool) -> dict[str, Any] | None:
    if split is None and max_size_mb is None:
        return None
    return {"split_by": split, "max_size_mb": max_size_mb, **({"many_files": True} if many_files else {})}


def encryption(
    method: str | None, recipients: list[str], password_file: Path | None, settings: Settings
) -> dict[str, Any] | None:
    """With the password in clear where one is needed; the request store seals it."""
    if method is None:
        if recipients or password_file is not None:
            raise RequestRejected("is needed with a recipient or a password; say aes256 or age", field="--encrypt")
        return None
    found: dict[str, Any] = {"method": method, "recipients": recipients}
    password = given_password(password_file, settings) if password_file or not recipients else None
    if password is None and not recipients:
        password = asked_password(new=True)
    if password is not None:
        found["password"] = password.get_secret_value()
    return found
