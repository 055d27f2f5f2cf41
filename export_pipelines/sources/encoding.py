"""Texts that are no UTF-8, which is what every file is written in: which column of a table holds one.

A database of encoding SQL_ASCII takes any bytes for a text; the others may hold characters that Unicode has no place
for. PostgreSQL refuses to send such a value, without saying where it is.
"""

from __future__ import annotations

import psycopg
from psycopg import errors, sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.core.types import Kind
from export_pipelines.sources.query import projected
from export_pipelines.sources.relation import from_where
from export_pipelines.sources.session import begin, connected, encoding_of

UNENCODABLE = (errors.CharacterNotInRepertoire, errors.UntranslatableCharacter)
SQLSTATES = tuple(error.sqlstate for error in UNENCODABLE)
_TEXTS = (Kind.TEXT, Kind.JSON)


class Unencodable(RequestRejected):
    """The source holds a text that is no UTF-8."""


def locate(url: str, catalog: Catalog, selection: TableSelection, scope: TenantScope) -> Unencodable:
    """The refusal to raise, with the table, the column and the database's encoding; a scan for each column of text.

    Asked on a connection of its own, since the error has ended the transaction that met it.
    """
    with connected(url) as connection:
        encoding = encoding_of(connection)
        begin(connection, catalog, scope)
        column = _column(connection, catalog, selection, scope)
    return Unencodable(
        f"the database has encoding {encoding}, and a value is no valid UTF-8; correct it, or leave the column out "
        "of the export",
        field=f"{selection.table}.{column}" if column else selection.table,
    )


def _column(
    connection: psycopg.Connection, catalog: Catalog, selection: TableSelection, scope: TenantScope
) -> str | None:
    """None where what was met is no longer there."""
    shape = catalog.shape(selection.table, selection.aggregation)
    rows = from_where(catalog, selection, scope)
    for name in selection.columns:
        form = shape.form_of(name, selection.as_text)
        if form.kind not in _TEXTS or shape.columns[name].mask is not None:
            continue
        value = projected(name, shape.columns[name], form)
        query = sql.SQL("SELECT count(pg_catalog.convert_to({}::text, 'UTF8')) {}").format(value, rows)
        try:
            with connection.transaction():
                connection.execute(query)
        except UNENCODABLE:
            return name
    return None
