"""Which tables, columns and rows a configuration means with a catalog: user input, like all of planning."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from export_pipelines.core.access import Role
from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.configuration import DataSource, ExportConfig, Filters
from export_pipelines.core.errors import NotAllowed, RequestRejected
from export_pipelines.core.filtering import conditions_of
from export_pipelines.core.measures import PERIOD, Aggregation, Figures
from export_pipelines.core.model import TableSelection
from export_pipelines.core.suggestions import did_you_mean
from export_pipelines.core.types import Kind, value_type
from export_pipelines.core.whole_tables import WholeTable, as_whole, refusal, require_named
from export_pipelines.core.windows import Window, parse_window


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a configuration came to mean."""

    selections: tuple[TableSelection, ...]
    left_out: tuple[str, ...] = ()  # tables without a time column, by `export_pipelines.core.whole_tables`


def selections_of(config: ExportConfig, catalog: Catalog, role: Role | None) -> Chosen:
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
    for source in named:
        catalog.table(source.type, offered=[name for name, table in catalog.tables.items() if _may(role, table)])
    alone = {source.type for source in config.data_sources or ()}
    return _chosen_of(named, alone, catalog)


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
        raise RequestRejected(
            f"there is no module {module!r}; {listed}{did_you_mean(module, choices)}", field="modules"
        )
    return modules[module]


def _chosen_of(sources: Sequence[DataSource], alone: Container[str], catalog: Catalog) -> Chosen:
    """``alone`` are the tables with an entry of their own."""
    selections: dict[str, TableSelection | None] = {}
    for source in sources:
        if source.type in selections:
            raise RequestRejected(f"table {source.type!r} is named twice", field="tables")
        selections[source.type] = _select(source, catalog, named_alone=source.type in alone)
    for source in sources:
        if source.filters is not None:
            require_named(source.filters.whole_tables, selections, field="filters.whole_tables")
    left_out = tuple(name for name, selection in selections.items() if selection is None)
    if left_out and len(left_out) == len(selections):
        raise RequestRejected(
            f"leaves nothing: {', '.join(left_out)} has no time column; leave the range out, or set it to "
            f"{WholeTable.INCLUDE}",
            field="filters.whole_tables",
        )
    return Chosen(selections=tuple(found for found in selections.values() if found is not None), left_out=left_out)


def _select(source: DataSource, catalog: Catalog, *, named_alone: bool) -> TableSelection | None:
    """None for a table that is to be left out."""
    table, filters = catalog.tables[source.type], source.filters or Filters()
    window = _window(source, catalog)
    whole = None
    if window is not None:
        has_time = table.time_column is not None
        whole = as_whole(source.type, filters.whole_tables, has_time_column=has_time, named_alone=named_alone)
    if whole is WholeTable.REFUSE:
        raise refusal(source.type, whole_tables="filters.whole_tables", field="filters.date_range")
    if whole is WholeTable.LEAVE_OUT:
        return None
    if whole is WholeTable.INCLUDE:
        window = None
    return TableSelection(
        table=source.type,
        columns=_columns(source, table) if source.aggregation is None else _figures(source, source.aggregation, table),
        window=window,
        window_column=table.time_column if window else None,
        include_deleted=filters.include_deleted or table.deleted_column is None,
        conditions=conditions_of(filters.values, source.type, table, catalog.timezone),
        aggregation=source.aggregation,
        whole=whole is WholeTable.INCLUDE,
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
                f"{source.type} has no column {name!r}; choose from {', '.join(choices)}{did_you_mean(name, choices)}",
                field="fields",
            )
    if len(set(source.fields)) != len(source.fields):
        raise RequestRejected(f"{source.type}: a column is named twice", field="fields")
    return tuple(name for name in choices if name in source.fields)


def _window(source: DataSource, catalog: Catalog) -> Window | None:
    wanted = source.filters.date_range if source.filters else None
    if wanted is None or (wanted.start is None and wanted.end is None):
        return None
    return parse_window(wanted.start, wanted.end, timezone=catalog.timezone)
