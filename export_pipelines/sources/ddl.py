"""The DDL of exported tables, read from the live database, so that they can be made again in an empty one.

What cannot exist without something that is not in the package (a function of the application, a table or a column that
is not exported) is left out and named; nothing of other tables, no policy, no role and no row is in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.migration import LeftOut, LoadColumn, LoadTable, MigrationScripts, load_order
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.sources.ddl_reading import (
    DdlReader,
    LiveAttribute,
    LiveConstraint,
    LiveIndex,
    LiveSequence,
    Reference,
)
from export_pipelines.sources.ddl_types import advance_sequence, create_types, sequence_clause
from export_pipelines.sources.relation import from_where

_KINDS = {"p": "primary key", "u": "unique constraint", "x": "exclusion constraint", "c": "check", "f": "foreign key"}


@dataclass(frozen=True, kw_only=True)
class _Relation:
    """A table on its way out of the database."""

    oid: int
    name: str
    selection: TableSelection
    table: Table  # as the catalog has it
    columns: dict[int, LiveAttribute]  # that are carried, by number

    def carries(self, numbers: Iterable[int]) -> bool:
        """Whether these columns are in the package with their values. A masked one is there, and empty."""
        found = [self.columns.get(number) for number in numbers if number > 0]
        return all(column is not None and self.table.columns[column.name].mask is None for column in found)


@dataclass(kw_only=True)
class _Draft:
    """What is being put together."""

    before: list[str] = field(default_factory=list)
    checks: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    keys: list[str] = field(default_factory=list)
    foreign_keys: list[str] = field(default_factory=list)
    parents: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    generated: set[tuple[int, int]] = field(default_factory=set)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, relation: _Relation, what: str, reason: str) -> None:
        self.left_out.append(LeftOut(table=relation.selection.table, what=what, reason=reason))


def read_ddl(
    connection: psycopg.Connection[Any], catalog: Catalog, selections: Iterable[TableSelection], scope: TenantScope
) -> MigrationScripts:
    """Scripts for these tables with the columns chosen. In a transaction; its search path is as before afterwards."""
    before = connection.execute("SHOW search_path").fetchone()
    assert before is not None
    connection.execute("SELECT set_config('search_path', quote_ident(%s), true)", (catalog.schema_,))
    try:
        return _Reflection(connection, catalog, tuple(selections), scope).scripts()
    finally:
        connection.execute("SELECT set_config('search_path', %s, true)", before)


class _Reflection:
    def __init__(
        self,
        connection: psycopg.Connection[Any],
        catalog: Catalog,
        selections: tuple[TableSelection, ...],
        scope: TenantScope,
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._scope = scope
        self._reader = DdlReader(connection)
        found = {s.table: self._reader.relation(*catalog.relation_name(s.table)) for s in selections}
        attributes = self._reader.attributes(oid for oid, _ in found.values())
        self._relations = {
            found[s.table][0]: _Relation(
                oid=found[s.table][0],
                name=found[s.table][1],
                selection=s,
                table=catalog.tables[s.table],
                columns={a.number: a for a in attributes[found[s.table][0]] if a.name in s.columns},
            )
            for s in selections
        }
        columns = [a for relation in self._relations.values() for a in relation.columns.values()]
        constraints = self._reader.constraints(self._relations, ())
        self._constraints = constraints
        self._indexes = self._reader.indexes(self._relations)
        self._needs = self._reader.references(
            defaults=[a.default_oid for a in columns if a.default_oid],
            constraints=[c.oid for c in constraints],
            indexes=[i.oid for i in self._indexes] + [c.index for c in constraints if c.kind == "x"],
        )
        self._sequences = self._reader.sequences(self._sequence_oids(columns))
        named = [n.oid for needs in self._needs.values() for n in needs if n.kind == "pg_type"]
        self._types = self._reader.types([*{a.type_oid for a in columns}, *named])
        self._draft = _Draft()

    def _sequence_oids(self, columns: Iterable[LiveAttribute]) -> set[int]:
        needs = (need for a in columns if a.default_oid for need in self._needs[a.default_oid])
        return {need.oid for need in needs if need.kind == "pg_class"} | {a.sequence for a in columns if a.sequence}

    def scripts(self) -> MigrationScripts:
        draft = self._draft
        draft.before += self._types_made()
        draft.before += [
            f"CREATE SEQUENCE {sequence.name} AS {sequence.type} {sequence_clause(sequence)}"
            for sequence in self._own_sequences().values()
        ]
        for constraint in self._constraints:
            self._constrain(self._relations[constraint.relation], constraint)
        draft.before += [self._create(relation) for relation in self._relations.values()]
        for index in self._indexes:
            self._index(self._relations[index.relation], index)
        for oid, parent in self._reader.parents(self._relations):
            reason = "tables are restored on their own, so that a query of the parent does not show these rows"
            draft.leave_out(self._relations[oid], f"inheritance from {parent}", reason)
        order = load_order((r.selection.table for r in self._relations.values()), draft.parents)
        load = {r.selection.table: self._load(r) for r in self._relations.values()}
        return MigrationScripts(
            schema=self._catalog.schema_,
            other_schemas=self._other_schemas(),
            extensions=tuple(sorted({found.extension for found in self._types if found.extension})),
            before=tuple(draft.before),
            after=(*draft.keys, *draft.foreign_keys, *self._positions()),
            tables=tuple(load[table] for table in order),
            left_out=tuple(draft.left_out),
        )

    def _other_schemas(self) -> tuple[str, ...]:
        own = {found.schema for found in self._types if found.extension is None}
        own |= {self._catalog.relation_name(r.selection.table)[0] for r in self._relations.values()}
        return tuple(sorted(own - {self._catalog.schema_}))

    # Types and columns ----------------------------------------------------------------------------------------------

    def _types_made(self) -> list[str]:
        checks: dict[int, list[LiveConstraint]] = defaultdict(list)
        of_domains = self._reader.constraints((), [found.oid for found in self._types if found.kind == "d"])
        needs = self._reader.references(defaults=(), constraints=[c.oid for c in of_domains], indexes=())
        for check in of_domains:
            missing = _unportable(needs[check.oid])
            if missing is None:
                checks[check.domain].append(check)
            else:
                self._draft.left_out.append(
                    LeftOut(table="", what=f"check {check.name} of a domain", reason=f"needs {missing}")
                )
        return create_types(self._types, checks)

    def _create(self, relation: _Relation) -> str:
        lines = [self._column(relation, relation.columns[n]) for n in relation.columns]
        lines += self._draft.checks[relation.oid]
        listed = ",\n    ".join(lines)
        return f"CREATE TABLE {relation.name} (\n    {listed}\n)"

    def _column(self, relation: _Relation, column: LiveAttribute) -> str:
        described = relation.table.columns[column.name]
        if described.mask is not None:
            return f"{column.quoted} {described.type}"  # empty, so neither a domain's rule nor NOT NULL can hold
        parts = [column.quoted, column.type]
        if column.collation and column.collation_portable:
            parts.append(f"COLLATE {column.collation}")
        elif column.collation:
            self._draft.leave_out(relation, f"collation of {column.name}", f"{column.collation} is the database's own")
        parts += self._value_of(relation, column)
        if column.not_null:
            parts.append("NOT NULL")
        return " ".join(parts)

    def _value_of(self, relation: _Relation, column: LiveAttribute) -> Iterator[str]:
        """The clause that gives a column its value, where the package has all that it needs."""
        if column.identity:
            when = "ALWAYS" if column.identity == "a" else "BY DEFAULT"
            assert column.sequence is not None
            yield f"GENERATED {when} AS IDENTITY ({sequence_clause(self._sequences[column.sequence])})"
        elif column.default_oid is not None:
            needs = self._needs[column.default_oid]
            missing = _unportable(needs) or self._missing(relation, needs)
            if missing is not None:
                what = "generation" if column.generated else "default"
                self._draft.leave_out(relation, f"{what} of {column.name}", f"needs {missing}")
            elif column.generated:
                self._draft.generated.add((relation.oid, column.number))
                yield f"GENERATED ALWAYS AS ({column.expression}) {'STORED' if column.generated == 's' else 'VIRTUAL'}"
            else:
                yield f"DEFAULT {column.expression}"

    def _missing(self, relation: _Relation, needs: Iterable[Reference]) -> str | None:
        """A table or column among the needs that the package does not have."""
        for need in needs:
            if need.kind == "pg_class" and need.oid not in self._sequences and need.oid != relation.oid:
                return need.identity
            if need.oid == relation.oid and not relation.carries([need.column]):
                return f"a column that is not exported ({need.identity}, number {need.column})"
        return None

    # Sequences ------------------------------------------------------------------------------------------------------

    def _own_sequences(self) -> dict[int, LiveSequence]:
        """Those that stand for themselves, by oid: an identity brings its own."""
        of_identities = {a.sequence for r in self._relations.values() for a in r.columns.values() if a.identity}
        return {oid: sequence for oid, sequence in self._sequences.items() if oid not in of_identities}

    def _positions(self) -> Iterator[str]:
        filled: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for relation in self._relations.values():
            for column in relation.columns.values():
                if column.identity and column.sequence is not None:
                    place = f"{sql.Literal(relation.name).as_string()}, {sql.Literal(column.name).as_string()}"
                    name = f"pg_catalog.pg_get_serial_sequence({place})"
                    yield advance_sequence(name, self._sequences[column.sequence], [(relation.name, column.quoted)])
                for need in self._needs[column.default_oid] if column.default_oid else ():
                    if need.oid in self._sequences:
                        filled[need.oid].append((relation.name, column.quoted))
        for oid, columns in filled.items():
            sequence = self._sequences[oid]
            yield advance_sequence(sql.Literal(sequence.name).as_string(), sequence, columns)
            if len(columns) == 1:
                yield f"ALTER SEQUENCE {sequence.name} OWNED BY {columns[0][0]}.{columns[0][1]}"

    # Constraints and indexes ----------------------------------------------------------------------------------------

    def _constrain(self, relation: _Relation, constraint: LiveConstraint) -> None:
        what = f"{_KINDS[constraint.kind]} {constraint.name}"
        needs = [*self._needs[constraint.oid], *(self._needs[constraint.index] if constraint.kind == "x" else [])]
        missing = _unportable(needs)
        if not relation.carries(constraint.columns):
            missing = "a column that is not exported"
        if constraint.kind == "f" and missing is None:
            missing = self._orphaned(relation, constraint)
        if missing is not None:
            self._draft.leave_out(relation, what, f"needs {missing}")
            return
        clause = f"CONSTRAINT {constraint.quoted} {constraint.definition}"
        if constraint.kind == "c" and not constraint.definition.endswith("NOT VALID"):
            self._draft.checks[relation.oid].append(clause)
            return
        statement = f"ALTER TABLE {relation.name} ADD {clause}"
        if constraint.kind == "f":
            self._draft.foreign_keys.append(statement)
            self._draft.parents[relation.selection.table].append(self._relations[constraint.references].selection.table)
        else:
            self._draft.keys.append(statement)

    def _orphaned(self, relation: _Relation, constraint: LiveConstraint) -> str | None:
        """Why a foreign key would not hold among the rows of the package."""
        parent = self._relations.get(constraint.references)
        if parent is None:
            (name,) = self._connection.execute("SELECT %s::oid::regclass::text", (constraint.references,)).fetchone()  # type: ignore[misc]
            return f"table {name}, which is not in the package"
        if not parent.carries(constraint.referenced_columns):
            return f"a column of {parent.name} that is not exported"
        orphans = self._count_orphans(relation, parent, constraint)
        return f"{orphans} rows of {parent.name} that are not in the package" if orphans else None

    def _count_orphans(self, child: _Relation, parent: _Relation, constraint: LiveConstraint) -> int:
        here = [sql.Identifier("t0", child.columns[n].name) for n in constraint.columns]
        there = [sql.Identifier("t0", parent.columns[n].name) for n in constraint.referenced_columns]
        keys = [sql.Identifier(f"k{i}") for i in range(len(here))]
        query = sql.SQL(
            "SELECT count(*) FROM (SELECT DISTINCT {listed} {children}) AS held "
            "WHERE {given} AND NOT EXISTS (SELECT {parents} AND {same})"
        ).format(
            listed=sql.SQL(", ").join(sql.SQL("{} AS {}").format(a, b) for a, b in zip(here, keys, strict=True)),
            children=from_where(self._catalog, child.selection, self._scope),
            given=sql.SQL(" AND ").join(sql.SQL("held.{} IS NOT NULL").format(key) for key in keys),
            parents=from_where(self._catalog, parent.selection, self._scope),
            same=sql.SQL(" AND ").join(
                sql.SQL("{} OPERATOR({}) held.{}").format(a, sql.SQL(operator), b)
                for a, b, operator in zip(there, keys, constraint.operators, strict=True)
            ),
        )
        row = self._connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def _index(self, relation: _Relation, index: LiveIndex) -> None:
        needs = self._needs[index.oid]
        missing = _unportable(needs) or self._missing(relation, needs)
        if missing is not None:
            self._draft.leave_out(relation, f"index {index.name}", f"needs {missing}")
            return
        self._draft.keys.append(
            index.definition.replace(f"INDEX {index.quoted} ON ONLY ", f"INDEX {index.quoted} ON ", 1)
        )

    def _load(self, relation: _Relation) -> LoadTable:
        numbers = {a.name: n for n, a in relation.columns.items()}
        schema, name = self._catalog.relation_name(relation.selection.table)
        return LoadTable(
            table=relation.selection.table,
            schema=None if schema == self._catalog.schema_ else schema,
            name=name,
            columns=tuple(
                LoadColumn(
                    name=column,
                    type=relation.columns[numbers[column]].type,
                    array=relation.columns[numbers[column]].array,
                    generated=(relation.oid, numbers[column]) in self._draft.generated,
                )
                for column in relation.selection.columns
            ),
        )


def _unportable(needs: Iterable[Reference]) -> str | None:
    """Something that neither PostgreSQL nor the package brings. The package has types; tables are looked at apart."""
    for need in needs:
        if need.kind not in ("pg_class", "pg_type", "pg_constraint", "pg_namespace") and not need.portable:
            return need.identity
    return None
