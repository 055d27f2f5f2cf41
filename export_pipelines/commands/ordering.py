"""The options of an order, each declared once for all commands that take orders, and as the JSON of a request.

``export`` and ``estimate`` take all of them, ``schedules create`` and ``update`` all but the period, ``convert`` and
``bulk`` those that do not choose rows. A new option is a field of its group and its word in that group's ``given``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import typer

from export_pipelines.commands.expanding import OptionGroup
from export_pipelines.commands.passwords import PasswordFile, asked_password, given_password
from export_pipelines.core.configuration import MANY_FILES, Configuration
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import MAX_TENANT_ID, TenantScope
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.planning.orders import Order
from export_pipelines.settings import Settings

NULL = r"\N"  # as in PostgreSQL's COPY
Tenant = Annotated[str, typer.Option(help="ID of the tenant.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UNSAID: dict[str, Any] = {
    "name": "",
    "compression": "none",
    "options": {},
    "split_files": None,
    "encryption": None,
    "delivery": [],
}
_SELECTING = ("data_sources", "tables", "modules", "filters")


@dataclass(frozen=True, kw_only=True)
class SelectionOptions(OptionGroup):
    """Which tables, columns and rows."""

    panel: ClassVar[str] = "Data"

    tables: Annotated[str, typer.Option(help="Tables, separated by commas; optional with --module.")] = ""
    module: Annotated[
        list[str] | None, typer.Option(help="Also export all other tables of this module. Repeatable.")
    ] = None
    fields: Annotated[
        list[str] | None,
        typer.Option(help="table:column,column exports only these columns of the table. Repeatable."),
    ] = None
    filter_: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="table:column=value,value exports only rows with one of these values. Put a value with a comma in "
            "double quotes; \\N is NULL. Repeatable.",
        ),
    ] = None
    aggregate: Annotated[
        list[str] | None,
        typer.Option(
            help="table:period exports the table's measures instead of its rows; the period is hourly, daily, weekly "
            "or monthly. Repeatable."
        ),
    ] = None
    include_deleted: Annotated[
        bool | None, typer.Option(help="Include rows that are marked as deleted.", show_default="no-include-deleted")
    ] = None

    def given(self, dates: tuple[str | None, str | None] = (None, None)) -> dict[str, Any]:
        """The part of the configuration that selects."""
        shared: dict[str, Any] = {"include_deleted": bool(self.include_deleted)}
        if any(dates):
            shared["date_range"] = {"start": dates[0], "end": dates[1]}
        choices: dict[str, dict[str, Any]] = {
            "--fields": dict(_field_choice(text) for text in self.fields or []),
            "--filter": _filter_choices(self.filter_ or []),
            "--aggregate": dict(_aggregate_choice(text) for text in self.aggregate or []),
        }
        sources = _data_sources(self.tables, choices, shared, required=not self.module)
        selected: dict[str, Any] = {"data_sources": sources} if sources else {}
        return selected | ({"modules": self.module, "filters": shared} if self.module else {})

    @property
    def is_given(self) -> bool:
        """Whether any of them was."""
        return any((self.tables.strip(), self.module, self.fields, self.filter_, self.aggregate))


@dataclass(frozen=True, kw_only=True)
class PeriodOptions(OptionGroup):
    """Rows of which time."""

    panel: ClassVar[str] = "Data"

    from_: Annotated[str | None, typer.Option("--from", help="Start day or instant, inclusive.")] = None
    to: Annotated[str | None, typer.Option(help="End day or instant, exclusive.")] = None


@dataclass(frozen=True, kw_only=True)
class PackageOptions(OptionGroup):
    """What the package is made of."""

    panel: ClassVar[str] = "Package"

    format_: Annotated[str | None, typer.Option("--format", help="csv, json, ndjson, parquet, xlsx or xml.")] = None
    option: Annotated[
        list[str] | None,
        typer.Option(help="name=value sets an option of the format, such as json_pretty=true. Repeatable."),
    ] = None
    compression: Annotated[
        str | None,
        typer.Option(help=f"none; {', '.join(CODECS)} for each file; or zip for one archive.", show_default="none"),
    ] = None
    name: Annotated[str | None, typer.Option(help="Title of the export.")] = None

    def given(self) -> dict[str, Any]:
        """The part of the configuration that was given."""
        options = None if self.option is None else dict(_format_option(text) for text in self.option)
        words = {"name": self.name, "format": self.format_, "compression": self.compression, "options": options}
        return {word: value for word, value in words.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class SplitOptions(OptionGroup):
    """How a table becomes several files."""

    panel: ClassVar[str] = "Package"

    split: Annotated[str | None, typer.Option(help="Split each table into several files: by month, week or size.")] = (
        None
    )
    max_size_mb: Annotated[float | None, typer.Option(help="Maximum size of each file in megabytes.")] = None
    many_files: Annotated[
        bool, typer.Option("--many-files", help=f"Confirm a split into more than {MANY_FILES} files.")
    ] = False

    def given(self) -> dict[str, Any]:
        """The part of the configuration that was given."""
        if self.split is None and self.max_size_mb is None:
            return {}
        confirmed = {"many_files": True} if self.many_files else {}
        return {"split_files": {"split_by": self.split, "max_size_mb": self.max_size_mb, **confirmed}}


@dataclass(frozen=True, kw_only=True)
class EncryptionOptions(OptionGroup):
    """Whether and for whom the package is encrypted."""

    panel: ClassVar[str] = "Encryption"

    encrypt: Annotated[str | None, typer.Option(help="aes256 (a ZIP archive with a password) or age.")] = None
    recipient: Annotated[list[str] | None, typer.Option(help="Public key for age. Repeatable.")] = None
    password_file: PasswordFile = None

    def given(self, settings: Settings) -> dict[str, Any]:
        """The part of the configuration that was given, with the password in clear; the request store seals it.

        Where nothing else names a password, the terminal is asked for one.
        """
        recipients = self.recipient or []
        if self.encrypt is None:
            if recipients or self.password_file is not None:
                raise RequestRejected("is needed with a recipient or a password; say aes256 or age", field="--encrypt")
            return {}
        found: dict[str, Any] = {"method": self.encrypt, "recipients": recipients}
        password = given_password(self.password_file, settings) if self.password_file or not recipients else None
        if password is None and not recipients:
            password = asked_password(new=True)
        if password is not None:
            found["password"] = password.get_secret_value()
        return {"encryption": found}

    def assumed(self) -> dict[str, Any]:
        """As `given`, where it does not matter which password it will be, so none is read or asked for."""
        if self.encrypt is None:
            return {}
        password = {} if self.recipient else {"password": {"sealed": True}}
        return {"encryption": {"method": self.encrypt, "recipients": self.recipient or [], **password}}


@dataclass(frozen=True, kw_only=True)
class DeliveryOptions(OptionGroup):
    """Who is told."""

    panel: ClassVar[str] = "Delivery"

    email: Annotated[list[str] | None, typer.Option(help="Email a download link to this address. Repeatable.")] = None
    deliver: Annotated[
        list[str] | None,
        typer.Option(
            help='An entry of `delivery` as JSON, such as {"method": "folder", "folder": "nas"}. Repeatable. '
            "`destinations list` shows the methods."
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """The part of the configuration that was given."""
        mails = [{"method": "email", "recipients": self.email}] if self.email else []
        entries = [*mails, *(_delivery_entry(text) for text in self.deliver or [])]
        return {"delivery": entries} if entries else {}


@dataclass(frozen=True, kw_only=True)
class ProductOptions(OptionGroup):
    """What becomes of the rows, whichever they are: the options of every order."""

    package: PackageOptions = field(default_factory=PackageOptions)
    encryption: EncryptionOptions = field(default_factory=EncryptionOptions)
    delivery: DeliveryOptions = field(default_factory=DeliveryOptions)

    def given(self, settings: Settings | None) -> dict[str, Any]:
        """The part of the configuration that was given; without settings, with whichever password."""
        sealing = self.encryption.assumed() if settings is None else self.encryption.given(settings)
        return {**self.package.given(), **sealing, **self.delivery.given()}


@dataclass(frozen=True, kw_only=True)
class OrderOptions(OptionGroup):
    """All options of an export."""

    selection: SelectionOptions = field(default_factory=SelectionOptions)
    period: PeriodOptions = field(default_factory=PeriodOptions)
    product: ProductOptions = field(default_factory=ProductOptions)
    splitting: SplitOptions = field(default_factory=SplitOptions)


def new_order(options: OrderOptions, settings: Settings | None) -> dict[str, Any]:
    """The configuration that the options describe. Without settings no password is read or asked for."""
    selected = options.selection.given((options.period.from_, options.period.to))
    return {**UNSAID, **selected, **options.splitting.given(), **options.product.given(settings)}


def changed_order(before: dict[str, Any], options: OrderOptions, settings: Settings) -> dict[str, Any]:
    """A configuration with what the options say in place of what it said; what is not given stays.

    Which tables, columns and rows there are is one choice: to change some of it, give all of it.
    """
    after = {**before, **options.splitting.given(), **options.product.given(settings)}
    selection = options.selection
    if selection.is_given:
        kept = {word: value for word, value in after.items() if word not in _SELECTING}
        return {**kept, **selection.given()}
    if selection.include_deleted is not None:
        raise RequestRejected("is part of the selection; give --tables or --module as well", field="--include-deleted")
    return after


def order_of(config: Mapping[str, Any], tenant: str) -> Order:
    """What an operator orders at the command line: any table, in no user's name."""
    require_tenant_id(tenant)
    scope = TenantScope(tenant_id=tenant)
    return Order(configuration=Configuration.of(config), scope=scope, requested_by="cli")


def _delivery_entry(text: str) -> dict[str, Any]:
    try:
        entry = json.loads(text)
    except ValueError as error:
        raise RequestRejected(f"{text!r} is not JSON: {error}", field="--deliver") from error
    if not isinstance(entry, dict):
        raise RequestRejected(f'{text!r} is no object such as {{"method": "email", …}}', field="--deliver")
    return entry


def require_tenant_id(tenant: str) -> None:
    if not tenant.strip():
        raise RequestRejected("is empty; give the ID of a tenant", field="--tenant")
    if len(tenant) > MAX_TENANT_ID:
        raise RequestRejected(
            f"has {len(tenant)} characters; ids of tenants have at most {MAX_TENANT_ID}", field="--tenant"
        )


def _data_sources(
    tables: str, choices: dict[str, dict[str, Any]], shared: dict[str, Any], *, required: bool
) -> list[dict[str, Any]]:
    """The named tables with what the options choose of them."""
    named = table_names(tables)
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


def table_names(text: str) -> list[str]:
    return [table.strip() for table in text.split(",") if table.strip()]


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


def _format_option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise RequestRejected(f"{text!r} is not name=value", field="--option")
    return name.strip(), {"true": True, "false": False}.get(value.lower(), value)
