"""Compares a catalog with its live database: drift, coverage, isolation, canary.

The rules of isolation are `isolation` (system catalogs) and `probe` (the tables themselves), those of the rows' tenants
`reachability`; this module puts the parts together and holds the rules of drift.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import psycopg

from export_pipelines.catalog.canary import find_uncovered
from export_pipelines.catalog.deletions import check_deletions
from export_pipelines.catalog.findings import Finding, error, warning
from export_pipelines.catalog.inheritance import check_inheritance
from export_pipelines.catalog.inventory import Kind, LiveColumn, LiveTable, read_inventory
from export_pipelines.catalog.isolation import static_isolation
from export_pipelines.catalog.measure_checks import check_measures
from export_pipelines.catalog.partition_counts import check_partition_counts
from export_pipelines.catalog.policies import policies_hash
from export_pipelines.catalog.probe import probe_isolation
from export_pipelines.catalog.reachability import Live, check_reach
from export_pipelines.catalog.unknown import exclusions_of, unknown_columns, unknown_tables
from export_pipelines.core.catalog import Catalog, Column, Table
from export_pipelines.core.types import normalize

__all__ = ["Finding", "check", "check_drift", "policies_hash", "static_isolation"]

_DECIDE = "export it, or list it under excluded with a reason"


def check(
    connection: psycopg.Connection[Any],
    catalog: Catalog,
    *,
    role: str | None = None,
    count_rows: bool = True,
    exact: bool = False,
) -> list[Finding]:
    """Everything that is wrong, errors first. ``role`` stands in for the catalog's reader role.

    Changes nothing. Tables that are missing are neither probed nor counted; ``exact`` counts large ones whole.
    """
    role = role or catalog.reader_role
    live = read_live(connection, catalog)
    findings = _drift(connection, catalog, live)
    isolation = static_isolation(connection, catalog, catalog.tables, role)
    findings.extend(isolation)
    findings.extend(check_measures(connection, catalog, catalog.tables))
    findings.extend(check_partition_counts(connection, catalog, now=dt.datetime.now(dt.UTC)))
    if not any(finding.level == "error" and finding.table is None for finding in isolation):
        unreadable = {finding.table for finding in findings if finding.level == "error" and finding.column is None}
        present = [name for name in catalog.tables if name not in unreadable]
        findings.extend(probe_isolation(connection, catalog, present, role))
        findings.extend(find_uncovered(connection, catalog, present, role))
        if count_rows:
            findings.extend(check_reach(connection, catalog, present, live, exact=exact))
    return sorted(findings, key=lambda finding: finding.level)


def check_drift(connection: psycopg.Connection[Any], catalog: Catalog) -> list[Finding]:
    """Where the database's tables, columns and keys are not what the catalog says."""
    return _drift(connection, catalog, read_live(connection, catalog))


def read_live(connection: psycopg.Connection[Any], catalog: Catalog) -> Live:
    """What the database holds, by (schema, name)."""
    return {(table.schema, table.name): table for table in read_inventory(connection, schema=catalog.schema_)}


def _drift(connection: psycopg.Connection[Any], catalog: Catalog, live: Live) -> list[Finding]:
    findings: list[Finding] = []
    for name in catalog.tables:
        place = catalog.relation_name(name)
        table = live.get(place)
        if table is not None:
            findings.extend(_table_drift(catalog, name, table, live))
        # A missing one is reported by the isolation check, which the extractor runs too.
    findings.extend(_coverage(catalog, list(live.values())))
    findings.extend(check_deletions(connection, catalog, catalog.tables))
    findings.extend(check_inheritance(connection, catalog))
    return findings


def _table_drift(catalog: Catalog, name: str, live: LiveTable, all_live: Live) -> Iterator[Finding]:
    table = catalog.tables[name]
    for key, column in table.columns.items():
        if key not in live.columns:
            message = f"does not exist in {live.label}"
            yield error(message, "remove it from the catalog", table=name, column=key)
        else:
            yield from _column_drift(catalog, name, key, column, live.columns[key])
    for key in unknown_columns(catalog, name, live):
        yield _new(catalog, "is new in the database", "add it, or add it with `exclude: <reason>`", name, key)
    yield from _key_drift(name, table, live)
    yield from _relation_drift(catalog, name, live, all_live)


def _column_drift(catalog: Catalog, name: str, key: str, column: Column, live: LiveColumn) -> Iterator[Finding]:
    if column.type not in _spellings(live, catalog.schema_):
        message = f"is {live.type} in the database, {column.type} in the catalog"
        yield error(message, f"set its type to {live.type}", table=name, column=key)
    if not column.nullable and not live.not_null:
        message = "may be NULL in the database, the catalog says it is not"
        yield error(message, "leave out `nullable: false`, or add NOT NULL in the database", table=name, column=key)


def _spellings(live: LiveColumn, schema: str) -> set[str]:
    names = {normalize(live.type), normalize(live.declared_type)}
    return names | {f"{schema}.{name}" for name in names} | {name.rpartition(".")[2] for name in names}


def _key_drift(name: str, table: Table, live: LiveTable) -> Iterator[Finding]:
    if live.is_view or set(table.primary_key) == set(live.primary_key):
        return
    wanted = ", ".join(live.primary_key) or "none"
    if not table.primary_key:
        excluded = any(key in table.columns and not table.columns[key].exported for key in live.primary_key)
        if not excluded:
            yield warning(f"the catalog names no primary key, the database has {wanted}", "add it", table=name)
    elif set(table.primary_key) not in [set(key) for key in live.unique_keys]:
        listed = ", ".join(table.primary_key)
        message = f"primary key ({listed}) is not unique and NOT NULL in the database, whose key is {wanted}"
        yield error(message, f"set primary_key to {wanted}, or add the constraint", table=name)


def _relation_drift(catalog: Catalog, name: str, live: LiveTable, all_live: Live) -> Iterator[Finding]:
    declared = {
        (key.references, frozenset(zip(key.columns, key.referenced_columns, strict=True))) for key in live.foreign_keys
    }
    for key, relation in catalog.tables[name].relations.items():
        target = all_live.get(catalog.relation_name(relation.references))
        if relation.virtual or target is None:
            continue
        pairs = frozenset(zip(relation.columns, relation.referenced_columns, strict=True))
        if (target.oid, pairs) not in declared:
            message = f"relation {key!r} is not a foreign key in the database"
            yield warning(message, "correct its columns, or mark it `virtual: true`", table=name)


def _coverage(catalog: Catalog, live: list[LiveTable]) -> Iterator[Finding]:
    """F2: every table of the source is exported or kept back with a reason."""
    met = {name for table in live for name in exclusions_of(catalog, table)}
    for table in unknown_tables(catalog, live):
        what = {Kind.VIEW: "view", Kind.MATERIALIZED: "materialized view"}.get(table.kind, "table")
        yield _new(catalog, f"is a new {what} in the database", _DECIDE, table.label, None)
    for name in catalog.excluded.keys() - met:
        if not name.endswith(".*"):
            yield warning("is excluded but does not exist", "remove it from excluded", table=name)


def _new(catalog: Catalog, message: str, next_step: str, table: str, column: str | None) -> Finding:
    """New data is the policy's to judge: it is left out of exports either way."""
    make = error if catalog.drift == "fail" else warning
    return make(message, next_step, table=table, column=column)
