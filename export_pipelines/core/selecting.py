"""Which tables, columns and rows a configuration means with a catalog: user input, like all of planning."""

from __future__ import annotations

from collections.abc import Iterable

from export_pipelines.core.access import Role
from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.configuration import DataSource, ExportConfig, Filters
from export_pipelines.core.errors import NotAllowed, RequestRejected
from export_pipelines.core.filtering import conditions_of
from export_pipelines.core.measures import PERIOD, Aggregation, Figures
from export_pipelines.core.model import TableSelection
from export_pipelines.core.types import Kind, value_type
from export_pipelines.core.windows import Window, parse_window


def selections_of(config: ExportConfig, catalog: Catalog, role: Role | None) -> tuple[TableSelection, ...]:
    """The tables that are named, then those of the modules that this role may export; of a bulk export all of it."""
    if config.is_bulk and role is Role.MEMBER:
        raise NotAllowed(f"{config.export_type} needs the role {Role.ADMIN}", field="export_type")
    filters = Filters(include_deleted=config.include_deleted is not False) if config.is_bulk else config.filters
    named = [
        source.model_copy(update={"filters": filters}) if config.is_bulk else source for source in config.sources()
    ]
    taken = {source.type for source in named}
    for module in config.modules or ():
        for table in _tables_of(module, catalog, role):
            if table not in taken:
                taken.add(table)
                named.append(DataSource(type=table, filters=filters))
    if config.is_bulk and not named:
        every = (name for name, table in catalog.tables.items() if _may(role, table))
        named = [DataSource(type=name, filters=filters) for name in every]
    return tuple(_selections(named, catalog))


def require_role(role: Role | None, selections: Iterable[TableSelection], catalog: Catalog) -> None:
    """`NotAllowed` naming the roles that may; no role is the host application or an operator, who may all."""
    for selection in selections:
        table = catalog.tables[selection.table]
        if not _may(role, table):
            roles = " or ".join(table.roles)
            raise NotAllowed(f"table {selection.table!r} may be exported by {roles} only", field="tables")


def withheld_from(role: Role | None, catalog: Catalog) -> tuple[str, ...]:
    """The tables that a role may not export."""
    return tuple(name for name, table in catalog.tables.items() if not _may(role, table))


def _may(role: Role | None, table: Table) -> bool:
    return role is None or role in table.roles


def _tables_of(module: str, catalog: Catalog, role: Role | None) -> list[str]:
    modules = {
        name: [table for table in tables if _may(role, catalog.tables[table])]
        for name, tables in catalog.modules.items()
    }
    choices = [name for name, tables in modules.items() if tables]
    if module not in choices:
        listed = f"choose from {', '.join(choices)}" if choices else "the catalog has none; name tables"
        raise RequestRejected(f"there is no module {module!r}; {listed}", field="modules")
    return modules[module]


def _selections(sources: Iterable[DataSource], catalog: Catalog) -> Iterable[TableSelection]:
    seen: set[str] = set()
    for source in sources:
        if source.type in seen:
            raise RequestRejected(f"table {source.type!r} is named twice", field="tables")
        seen.add(source.type)
        yield _select(source, catalog)


def _select(source: DataSource, catalog: Catalog) -> TableSelection:
    table, filters = catalog.table(source.type), source.filters or Filters()
    window = _window(source, table, catalog)
    return TableSelection(
        table=source.type,
        columns=_columns(source, table) if source.aggregation is None else _figures(source, source.aggregation, table),
        window=window,
        window_column=table.time_column if window else None,
        include_deleted=filters.include_deleted or table.deleted_column is None,
        conditions=conditions_of(filters.values, source.type, table, catalog.timezone),
        aggregation=source.aggregation,
    )


def _columns(source: DataSource, table: Table) -> tuple[str, ...]:
    """In catalog order, whatever the order of the request."""
    for name in source.fields or ():
        column = table.columns.get(name)
        if column is not None and column.exclude is not None:
            raise RequestRejected(f"{source.type}.{name} is never exported: {column.exclude}", field="fields")
    return _chosen(source, table.exported_columns)


def _figures(source: DataSource, aggregation: Aggregation, table: Table) -> tuple[str, ...]:
    """The period first, whether it was named or not, then dimensions and measures."""
    if not table.measures:
        raise RequestRejected(
            f"{source.type} has no measures in the catalog; export its rows, or have measures added",
            field="aggregation",
        )
    kind = value_type(table.columns[str(table.time_column)].type).kind
    if aggregation is Aggregation.HOURLY and kind is Kind.DATE:
        raise RequestRejected(
            f"{source.type}.{table.time_column} is a date, so it has no hours; choose daily, weekly or monthly",
            field="aggregation",
        )
    figures: Figures = table.figures(aggregation)
    chosen = _chosen(source, tuple(figures.columns))
    if not any(name in figures.measures for name in chosen):
        choices = ", ".join(figures.measures)
        raise RequestRejected(f"{source.type}: name at least one measure: {choices}", field="fields")
    return chosen if PERIOD in chosen else (PERIOD, *chosen)


def _chosen(source: DataSource, choices: tuple[str, ...]) -> tuple[str, ...]:
    if source.fields is None:
        return choices
    for name in source.fields:
        if name not in choices:
            raise RequestRejected(
                f"{source.type} has no column {name!r}; choose from {', '.join(choices)}", field="fields"
            )
    if len(set(source.fields)) != len(source.fields):
        raise RequestRejected(f"{source.type}: a column is named twice", field="fields")
    return tuple(name for name in choices if name in source.fields)


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
