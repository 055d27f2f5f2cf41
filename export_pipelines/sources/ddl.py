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
from export_pipelines.core.migration import (
    ExtensionStatement,
    LeftOut,
    LoadColumn,
    LoadTable,
    MigrationScripts,
    load_order,
)
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.sources.ddl_reading import (
    DdlReader,
    LiveAttribute,
    LiveConstraint,
    LiveIndex,
    LiveSequence,
    Reference,
)
from export_pipelines.sources.ddl_types import TypeReader, advance_sequence, sequence_clause, unportable
from export_pipelines.sources.expressions import called_functions, objection
from export_pipelines.sources.extensions import schemas_of_extensions_alone, search_path
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
    optional: list[ExtensionStatement] = field(default_factory=list)
    required: set[str] = field(default_factory=set)  # extensions without which the tables cannot be made
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
    path = search_path([catalog.schema_, *schemas_of_extensions_alone(connection)])
    connection.execute("SELECT set_config('search_path', %s, true)", (path,))
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
        defaults = [a.default_oid for a in columns if a.default_oid]
        indexes = [i.oid for i in self._indexes] + [c.index for c in constraints if c.index]
        of_constraints = [c.oid for c in constraints]
        self._needs = self._reader.references(defaults=defaults, constraints=of_constraints, relations=indexes)
        self._called = called_functions(connection, defaults=defaults, constraints=of_constraints, indexes=indexes)
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
        columns = {r.oid: [self._column(r, column) for column in r.columns.values()] for r in self._relations.values()}
        for constraint in self._constraints:
            self._constrain(self._relations[constraint.relation], constraint)
        draft.before += [self._create(r, columns[r.oid]) for r in self._relations.values()]
        for index in self._indexes:
            self._index(self._relations[index.relation], index)
        positions = list(self._positions())
        for rest in self._reader.rest(self._relations, (self._catalog.reader_role, self._catalog.directory_role)):
            draft.leave_out(self._relations[rest.relation], rest.what, rest.reason)
        for oid, parent in self._reader.parents(self._relations):
            reason = "tables are restored on their own, so that a query of the parent does not show these rows"
            draft.leave_out(self._relations[oid], f"inheritance from {parent}", reason)
        order = load_order((r.selection.table for r in self._relations.values()), draft.parents)
        load = {r.selection.table: self._load(r) for r in self._relations.values()}
        return MigrationScripts(
            schema=self._catalog.schema_,
            other_schemas=self._other_schemas(),
            extensions=tuple(sorted(draft.required)),
            before=tuple(draft.before),
            after=(*draft.keys, *draft.foreign_keys, *positions),
            optional=tuple(sorted(draft.optional, key=lambda one: one.what.startswith(_KINDS["f"]))),  # keys first
            tables=tuple(load[table] for table in order),
            left_out=tuple(draft.left_out),
        )

    def _other_schemas(self) -> tuple[str, ...]:
        own = {found.schema for found in self._types if found.extension is None}
        own |= {sequence.schema for sequence in self._own_sequences().values()}
        own |= {self._catalog.relation_name(r.selection.table)[0] for r in self._relations.values()}
        return tuple(sorted(own - {self._catalog.schema_}))

    # Types and columns ----------------------------------------------------------------------------------------------

    def _types_made(self) -> list[str]:
        types = TypeReader(self._connection, self._reader)
        made = types.statements(self._types)
        oids = [a.type_oid for r in self._relations.values() for a in r.columns.values()]
        oids += [found.oid for found in self._types if found.extension is None]
        in_tables = {found.extension for found in self._reader.types(oids) if found.extension}
        self._draft.required |= types.extensions | in_tables
        self._draft.left_out += types.left_out
        return made

    def _create(self, relation: _Relation, columns: list[str]) -> str:
        listed = ",\n    ".join(columns + self._draft.checks[relation.oid])
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
        if column.unproved:
            self._draft.leave_out(relation, f"NOT NULL of {column.name}", "older rows were never held to it")
        elif column.not_null:
            parts.append("NOT NULL")
        return " ".join(parts)

    def _value_of(self, relation: _Relation, column: LiveAttribute) -> Iterator[str]:
        """The clause that gives a column its value, where the package has all that it needs."""
        if column.identity:
            when = "ALWAYS" if column.identity == "a" else "BY DEFAULT"
            assert column.sequence is not None
            yield f"GENERATED {when} AS IDENTITY ({sequence_clause(self._sequences[column.sequence])})"
        elif column.default_oid is not None:
            needs, called = self._needs[column.default_oid], self._called[column.default_oid]
            missing = unportable(needs) or self._missing(relation, needs)
            missing = missing or objection(called, default=not column.generated)
            extensions = _extensions(needs)
            what = f"{'generation' if column.generated else 'default'} of {column.name}"
            if missing is not None:
                self._draft.leave_out(relation, what, f"needs {missing}")
            elif column.generated:
                self._draft.required |= extensions
                self._draft.generated.add((relation.oid, column.number))
                yield f"GENERATED ALWAYS AS ({column.expression}) {'STORED' if column.generated == 's' else 'VIRTUAL'}"
            elif extensions <= self._draft.required:
                yield f"DEFAULT ({column.expression})"
            else:
                statement = (
                    f"ALTER TABLE {relation.name} ALTER COLUMN {column.quoted} SET DEFAULT ({column.expression})"
                )
                self._optional(relation, what, extensions, statement)

    def _optional(self, relation: _Relation, what: str, extensions: set[str], statement: str) -> None:
        needed = tuple(sorted(extensions - self._draft.required))
        self._draft.optional.append(
            ExtensionStatement(table=relation.selection.table, what=what, extensions=needed, statement=statement)
        )

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
        names: dict[int, str] = {}
        for relation in self._relations.values():
            for column in relation.columns.values():
                if column.identity and column.sequence is not None:
                    place = f"{sql.Literal(relation.name).as_string()}, {sql.Literal(column.name).as_string()}"
                    names[column.sequence] = f"pg_catalog.pg_get_serial_sequence({place})"
                    filled[column.sequence].append((relation.name, column.quoted))
                for need in self._needs[column.default_oid] if column.default_oid else ():
                    if need.oid in self._sequences:
                        filled[need.oid].append((relation.name, column.quoted))
        for oid, sequence in self._sequences.items():
            position = advance_sequence(
                names.get(oid, sql.Literal(sequence.name).as_string().strip()), sequence, filled[oid]
            )
            owner = self._relations.get(sequence.owner or 0)
            if position is not None:
                yield position
            if not sequence.readable:
                what = f"position of sequence {sequence.name}"
                reason = f"role {self._catalog.reader_role} may not read it; it goes on behind the rows of the package"
                table = owner.selection.table if owner else ""
                self._draft.left_out.append(LeftOut(table=table, what=what, reason=reason))
            owning = owner.columns.get(sequence.owner_column or 0) if owner else None
            if owner and owning and oid not in names:
                yield f"ALTER SEQUENCE {sequence.name} OWNED BY {owner.name}.{owning.quoted}"

    # Constraints and indexes ----------------------------------------------------------------------------------------

    def _constrain(self, relation: _Relation, constraint: LiveConstraint) -> None:
        what = f"{_KINDS[constraint.kind]} {constraint.name}"
        needs = [*self._needs[constraint.oid], *self._needs[constraint.index]]
        called = [*self._called[constraint.oid], *self._called[constraint.index]]
        missing = unportable(needs) or objection(called, default=False)
        if not relation.carries(constraint.columns):
            missing = "a column that is not exported"
        if constraint.kind == "f" and missing is None:
            missing = self._orphaned(relation, constraint)
        if missing is not None:
            self._draft.leave_out(relation, what, f"needs {missing}")
            return
        clause = f"CONSTRAINT {constraint.quoted} {constraint.definition}"
        statement = f"ALTER TABLE {relation.name} ADD {clause}"
        if constraint.kind == "f":
            self._draft.parents[relation.selection.table].append(self._relations[constraint.references].selection.table)
        if not (extensions := _extensions(needs)) <= self._draft.required:
            self._optional(relation, what, extensions, statement)
        elif constraint.kind == "c" and not constraint.definition.endswith("NOT VALID"):
            self._draft.checks[relation.oid].append(clause)
        elif constraint.kind == "f":
            self._draft.foreign_keys.append(statement)
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
                sql.SQL("{} {} held.{}").format(a, sql.SQL(equals), b)
                for a, equals, b in zip(there, constraint.operators, keys, strict=True)
            ),
        )
        row = self._connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def _index(self, relation: _Relation, index: LiveIndex) -> None:
        needs = self._needs[index.oid]
        missing = (
            unportable(needs) or self._missing(relation, needs) or objection(self._called[index.oid], default=False)
        )
        what = f"index {index.name}"
        if missing is not None:
            self._draft.leave_out(relation, what, f"needs {missing}")
            return
        statement = index.definition.replace(f"INDEX {index.quoted} ON ONLY ", f"INDEX {index.quoted} ON ", 1)
        if (extensions := _extensions(needs)) <= self._draft.required:
            self._draft.keys.append(statement)
        else:
            self._optional(relation, what, extensions, statement)

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


def _extensions(needs: Iterable[Reference]) -> set[str]:
    return {need.extension for need in needs if need.extension}
