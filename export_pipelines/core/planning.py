"""From an untrusted configuration and a catalog to an `ExportPlan`. Every rule about user input is here."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from export_pipelines.core.access import Role
from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.configuration import DataSource, EmailTarget, ExportConfig, Filters, explain
from export_pipelines.core.errors import NotAllowed, RequestRejected
from export_pipelines.core.model import EmailDelivery, ExportPlan, KeptStage, TableSelection, TenantScope
from export_pipelines.core.packing import choose_compression, sealing_of, split_of
from export_pipelines.core.ports import FormatSpec
from export_pipelines.core.windows import Window, parse_window

_EMAIL = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\".]+(?:\.[^@\s,;<>\".]+)+")
_DEFAULT_NAME = "Data export"
LOADABLE = ("csv", "parquet")  # formats of a migration


def plan_export(
    config: ExportConfig,
    catalog: Catalog,
    *,
    request_id: str,
    attempt: int,
    scope: TenantScope,
    requested_at: dt.datetime,
    formats: Mapping[str, FormatSpec],
    codecs: Collection[str],
    kept: KeptStage | None = None,
    role: Role | None = None,
) -> ExportPlan:
    """A plan, or `RequestRejected` naming the field, the value's problem and the choices.

    ``kept`` is what a conversion converts; its tables, columns and rows are given. ``role`` is the requester's; none is
    the host application or an operator at the command line, who may have every table.
    """
    _check_text(config.name, "name")
    spec = choose_format(config.format, formats)
    if kept:
        selections = kept.selections
    elif config.is_bulk:
        selections = tuple(_whole_tables(config, catalog, role))
    else:
        selections = tuple(_selections(config.sources(), catalog))
    _require_role(role, selections, catalog)
    options = format_options(spec, config.options, formats)
    if config.export_type == "migration":
        require_loadable(spec, options)
    return ExportPlan(
        request_id=request_id,
        attempt=attempt,
        scope=scope,
        catalog=catalog.name,
        export_type=config.export_type,
        name=config.name or _DEFAULT_NAME,
        selections=selections,
        format=spec.name,
        format_options=options,
        compression=choose_compression(config.compression, spec, codecs),
        split=split_of(config.split_files, selections, catalog),
        sealing=sealing_of(config.encryption),
        requested_at=requested_at,
        emails=tuple(_email(target) for target in config.delivery if isinstance(target, EmailTarget)),
        converted_from=kept.request_id if kept else None,
        parallel_jobs=config.parallel_jobs or 1,
        point_in_time=config.point_in_time.astimezone(dt.UTC) if config.point_in_time else None,
    )


def _require_role(role: Role | None, selections: Iterable[TableSelection], catalog: Catalog) -> None:
    for selection in selections:
        roles = catalog.tables[selection.table].roles
        if role is not None and role not in roles:
            raise NotAllowed(f"table {selection.table!r} may be exported by {' or '.join(roles)} only", field="tables")


def _whole_tables(config: ExportConfig, catalog: Catalog, role: Role | None) -> Iterable[TableSelection]:
    """The tables named, or all that the role may have; rows marked as deleted are part of a backup."""
    if role is Role.MEMBER:
        raise NotAllowed(f"{config.export_type} needs the role {Role.ADMIN}", field="export_type")
    allowed = (name for name, table in catalog.tables.items() if role is None or str(role) in table.roles)
    named = config.tables or tuple(allowed)
    filters = Filters(include_deleted=config.include_deleted is not False)
    return _selections((DataSource(type=name, filters=filters) for name in named), catalog)


def require_loadable(spec: FormatSpec, options: Mapping[str, Any]) -> None:
    """`RequestRejected` for files that a database does not take as they are."""
    if spec.name not in LOADABLE:
        raise RequestRejected(
            f"{spec.name!r} cannot be loaded into a database; choose from {', '.join(LOADABLE)}", field="format"
        )
    if options.get("csv_profile", "rfc4180") != "rfc4180":
        raise RequestRejected("disarms formulas, which a database would keep; use rfc4180", field="options.csv_profile")


def _selections(sources: Iterable[DataSource], catalog: Catalog) -> Iterable[TableSelection]:
    seen: set[str] = set()
    for source in sources:
        if source.type in seen:
            raise RequestRejected(f"table {source.type!r} is named twice", field="tables")
        seen.add(source.type)
        yield select(source, catalog)


def select(source: DataSource, catalog: Catalog) -> TableSelection:
    """One table with its columns in catalog order and its time window."""
    table = catalog.table(source.type)
    window = _window(source, table, catalog)
    include_deleted = bool(source.filters and source.filters.include_deleted) or table.deleted_column is None
    return TableSelection(
        table=source.type,
        columns=_columns(source, table),
        window=window,
        window_column=table.time_column if window else None,
        include_deleted=include_deleted,
    )


def _columns(source: DataSource, table: Table) -> tuple[str, ...]:
    if source.fields is None:
        return table.exported_columns
    for name in source.fields:
        column = table.columns.get(name)
        if column is None:
            choices = ", ".join(table.exported_columns)
            raise RequestRejected(f"{source.type} has no column {name!r}; choose from {choices}", field="fields")
        if column.exclude is not None:
            raise RequestRejected(f"{source.type}.{name} is never exported: {column.exclude}", field="fields")
    if len(set(source.fields)) != len(source.fields):
        raise RequestRejected(f"{source.type}: a column is named twice", field="fields")
    return tuple(name for name in table.exported_columns if name in source.fields)


def _window(source: DataSource, table: Table, catalog: Catalog) -> Window | None:
    wanted = source.filters.date_range if source.filters else None
    if wanted is None or (wanted.start is None and wanted.end is None):
        return None
    if table.time_column is None:
        raise RequestRejected(
            f"{source.type} has no time column, so it cannot be limited to a date range; "
            "leave the range out, or ask for this table in an export of its own",
            field="filters.date_range",
        )
    return parse_window(wanted.start, wanted.end, timezone=catalog.timezone)


def choose_format(name: str, formats: Mapping[str, FormatSpec]) -> FormatSpec:
    """The format of that name or alias."""
    wanted = name.strip().lower()
    for spec in formats.values():
        if wanted == spec.name or wanted in spec.aliases:
            return spec
    raise RequestRejected(f"{name!r} is not a format; choose from {', '.join(formats)}", field="format")


def format_options(spec: FormatSpec, options: Mapping[str, Any], formats: Mapping[str, FormatSpec]) -> dict[str, Any]:
    """The format's own options, checked by its model; those of other formats are allowed and have no effect."""
    known = {name: other for other in formats.values() if other.options for name in other.options.model_fields}
    for name in options:
        if name not in known:
            raise RequestRejected(f"there is no option {name!r}; choose from {', '.join(known)}", field="options")
    if spec.options is None:
        return {}
    own = {name: value for name, value in options.items() if name in spec.options.model_fields}
    try:
        return spec.options.model_validate(own).model_dump(exclude_defaults=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(("options", *(str(part) for part in first["loc"])))
        raise RequestRejected(explain(first), field=field) from error


def _email(target: EmailTarget) -> EmailDelivery:
    for address in target.recipients:
        if not _EMAIL.fullmatch(address):
            raise RequestRejected(f"{address!r} is not an email address", field="delivery.recipients")
        _check_text(address, "delivery.recipients")
    _check_text(target.subject or "", "delivery.subject")
    return EmailDelivery(recipients=tuple(dict.fromkeys(target.recipients)), subject=target.subject, body=target.body)


def _check_text(value: str, field: str) -> None:
    if any(ord(char) < ord(" ") or char == "\x7f" for char in value):
        raise RequestRejected("must not hold line breaks or control characters", field=field)
