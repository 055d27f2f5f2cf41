"""DDL of the types and sequences that columns of exported tables need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.core.migration import LeftOut
from export_pipelines.sources.ddl_reading import DdlReader, LiveConstraint, LiveSequence, LiveType, Reference
from export_pipelines.sources.expressions import CalledFunction, called_functions, objection


def create_types(types: Iterable[LiveType], checks: Mapping[int, list[LiveConstraint]]) -> list[str]:
    """Each type after those that it consists of; none for those of extensions."""
    known = {found.oid: found for found in types}
    made: dict[int, str | None] = {}

    def make(oid: int) -> None:
        if oid in made or oid not in known:
            return
        made[oid] = None  # a composite type cannot hold itself, but nothing here depends on that
        for part in known[oid].needs:
            make(part)
        statement = made.pop(oid) or _create(known[oid], checks.get(oid, []))
        made[oid] = statement

    for oid in known:
        make(oid)
    return [statement for statement in made.values() if statement]


def _create(found: LiveType, checks: list[LiveConstraint]) -> str | None:
    if found.extension is not None:
        return None
    match found.kind:
        case "e":
            labels = ", ".join(sql.Literal(label).as_string() for label in found.labels)
            return f"CREATE TYPE {found.name} AS ENUM ({labels})"
        case "c":
            return f"CREATE TYPE {found.name} AS ({', '.join(found.attributes)})"
        case "r":
            return f"CREATE TYPE {found.name} AS RANGE ({', '.join(_range_options(found))})"
        case "d":
            return _create_domain(found, checks)
    return None


def _range_options(found: LiveType) -> Iterator[str]:
    yield f"SUBTYPE = {found.subtype}"
    yield f"MULTIRANGE_TYPE_NAME = {found.multirange}"
    if found.opclass:
        yield f"SUBTYPE_OPCLASS = {found.opclass}"
    if found.collation:
        yield f"COLLATION = {found.collation}"
    if found.difference:
        yield f"SUBTYPE_DIFF = {found.difference}"


def _create_domain(found: LiveType, checks: list[LiveConstraint]) -> str:
    parts = [f"CREATE DOMAIN {found.name} AS {found.base}"]
    if found.collation:
        parts.append(f"COLLATE {found.collation}")
    if found.default is not None:
        parts.append(f"DEFAULT ({found.default})")
    if found.not_null:
        parts.append("NOT NULL")
    parts += [f"CONSTRAINT {check.quoted} {check.definition}" for check in checks]
    return " ".join(parts)


class TypeReader:
    """Types as they can be carried; what of them cannot is put aside."""

    def __init__(self, connection: psycopg.Connection[Any], reader: DdlReader) -> None:
        self._connection = connection
        self._reader = reader
        self.left_out: list[LeftOut] = []
        self.extensions: set[str] = set()  # that the statements need

    def statements(self, types: Iterable[LiveType]) -> list[str]:
        """Makes all but those of extensions."""
        own = [found for found in types if found.extension is None]
        checks: dict[int, list[LiveConstraint]] = defaultdict(list)
        of_domains = self._reader.constraints((), [found.oid for found in own if found.kind == "d"])
        oids = [check.oid for check in of_domains]
        needs = self._reader.references(constraints=oids, types=[found.oid for found in own])
        called = called_functions(self._connection, constraints=oids, types=[found.oid for found in own])
        for check in of_domains:
            missing = unportable(needs[check.oid]) or objection(called[check.oid], default=False)
            if check.definition.endswith("NOT VALID"):
                missing = "values from before it to be looked at"
            if missing is None:
                checks[check.domain].append(check)
                self.extensions |= {need.extension for need in needs[check.oid] if need.extension}
            else:
                self._leave_out(f"check {check.name} of a domain", f"needs {missing}")
        return create_types([self._carried(found, needs[found.oid], called[found.oid]) for found in own], checks)

    def _carried(self, found: LiveType, needs: list[Reference], called: list[CalledFunction]) -> LiveType:
        if not found.collation_portable:
            self._leave_out(f"collation of {found.name}", f"{found.collation} is the database's own")
            found = replace(found, collation=None)
        code = [need for need in needs if need.kind in ("pg_proc", "pg_operator", "pg_class")]
        missing = unportable(code) or objection(called, default=True)
        sequence = next((need.identity for need in code if need.kind == "pg_class"), None)
        if found.kind == "d" and found.default is not None and (missing or sequence):
            self._leave_out(f"default of {found.name}", f"needs {missing or sequence}")
            return replace(found, default=None)
        if found.canonical is not None:
            self._leave_out(f"canonical function of {found.name}", f"{found.canonical} belongs to the application")
        if found.difference is not None and missing is not None:
            self._leave_out(f"subtype_diff of {found.name}", f"needs {missing}")
            return replace(found, difference=None)
        self.extensions |= {need.extension for need in needs if need.extension}
        return found

    def _leave_out(self, what: str, reason: str) -> None:
        self.left_out.append(LeftOut(table="", what=what, reason=reason))


def unportable(needs: Iterable[Reference]) -> str | None:
    """Something that neither PostgreSQL, an extension nor the package brings. The package has types; tables are looked
    at apart.
    """
    for need in needs:
        if need.kind not in ("pg_class", "pg_type", "pg_constraint", "pg_namespace") and not need.portable:
            return need.identity
    return None


def sequence_clause(sequence: LiveSequence) -> str:
    """The options of ``CREATE SEQUENCE`` and of an identity alike, without the type."""
    cycle = "CYCLE" if sequence.cycle else "NO CYCLE"
    return (
        f"INCREMENT BY {sequence.increment} MINVALUE {sequence.least} MAXVALUE {sequence.greatest} "
        f"START WITH {sequence.start} CACHE {sequence.cache} {cycle}"
    )


def advance_sequence(name: str, sequence: LiveSequence, columns: Iterable[tuple[str, str]]) -> str | None:
    """To where the source's stands, if that was read, and past the greatest value in ``columns`` (relation and column).

    None where there is neither.
    """
    farthest = "pg_catalog.max" if sequence.increment > 0 else "pg_catalog.min"
    values = [
        f"SELECT {farthest}({column}) AS value FROM {relation}"  # noqa: S608 - names as PostgreSQL quotes them
        for relation, column in columns
    ]
    if sequence.last is not None:
        values.append(f"SELECT {sequence.last} AS value")
    if not values:
        return None
    return (
        f"SELECT pg_catalog.setval({name}, {farthest}(value)) FROM ({' UNION ALL '.join(values)}) AS held "  # noqa: S608
        f"HAVING {farthest}(value) BETWEEN {sequence.least} AND {sequence.greatest}"
    )
