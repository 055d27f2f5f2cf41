"""Filters by value: what a request may compare a column with, checked and converted by the column's type.

The SQL that compares is in `export_pipelines.sources.relation`; values reach it as literals only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from export_pipelines.core.catalog import Table
from export_pipelines.core.configuration import Filters
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.literals import CONVERTERS, Scalar, as_text
from export_pipelines.core.model import Condition
from export_pipelines.core.rejection import called_here
from export_pipelines.core.suggestions import did_you_mean
from export_pipelines.core.types import Kind, base_type, value_type

_SHOWN_CHARACTERS = 40  # of a name or value in a message
_LONGEST_NAME = 63
_COMPARED_AS = {"character": "bpchar", "character varying": "text"}  # without a length, which would cut the value
_UNCOMPARED = (Kind.JSON, Kind.BYTES)
_PLURALS = (("s", ""), ("es", ""), ("ies", "y"))


def conditions_of(
    wanted: Mapping[str, tuple[Scalar, ...]], name: str, table: Table, zone: str
) -> tuple[Condition, ...]:
    """The filters of a data source; `RequestRejected` names column, type and what is wrong with the value."""
    found: dict[str, Condition] = {}
    for key, values in wanted.items():
        column = _column(key, name, table)
        if column in found:
            raise RequestRejected(f"{name}.{column} is filtered twice; give one list", field=_field(key))
        found[column] = _condition(key, column, values, name, table, zone)
    return tuple(found.values())


def compared_as(pg_type: str) -> str | None:
    """The SQL type values are compared as; None for types that are compared by the text PostgreSQL prints.

    Never with a modifier: ``12.345::numeric(12,2)`` would become another number.
    """
    base = base_type(pg_type)
    return _COMPARED_AS.get(base, base) if base in CONVERTERS else None


def filterable(table: Table) -> tuple[str, ...]:
    """Columns that may be compared with values: a column that is kept back would leak by counting."""
    return tuple(
        name
        for name in table.exported_columns
        for column in (table.columns[name],)
        if column.mask is None and value_type(column.type).kind not in _UNCOMPARED
    )


def _column(key: str, name: str, table: Table) -> str:
    """The column a filter names. A name that is no column is read as a plural: ``agent_ids`` is ``agent_id``."""
    names = [key, *(key.removesuffix(ending) + single for ending, single in _PLURALS if key.endswith(ending))]
    column = next((candidate for candidate in names if candidate in table.columns), None)
    field = _field(key)
    if column is None:
        if said := called_here(key, Filters.foreign_names, within="filters"):
            raise RequestRejected(said, field=field)
        known = filterable(table)
        choices = ", ".join(known)
        raise RequestRejected(
            f"{name} has no column of that name; choose from {choices}{did_you_mean(key, known)}", field=field
        )
    spec = table.columns[column]
    if reason := spec.exclude or spec.mask:
        raise RequestRejected(f"{name}.{column} is kept back, so it cannot be filtered on: {reason}", field=field)
    if column not in filterable(table):
        raise RequestRejected(f"{name}.{column} is {spec.type}, which cannot be compared with values", field=field)
    return column


def _condition(key: str, column: str, values: Iterable[Scalar], name: str, table: Table, zone: str) -> Condition:
    pg_type = table.columns[column].type
    convert = CONVERTERS.get(base_type(pg_type), as_text)
    texts: dict[str, None] = {}
    or_null = False
    for value in values:
        if value is None:
            or_null = True
            continue
        try:
            texts[convert(value, zone)] = None
        except ValueError as error:
            raise RequestRejected(
                f"{name}.{column} is {pg_type}: {_shown(value)} {error}", field=_field(key)
            ) from error
    return Condition(column=column, values=tuple(texts), or_null=or_null)


def _field(key: str) -> str:
    return f"filters.{key[:_LONGEST_NAME]}"


def _shown(value: Scalar) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    cut = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return repr(cut) if isinstance(value, str) else cut
