"""DDL of the types and sequences that columns of exported tables need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from psycopg import sql

from export_pipelines.sources.ddl_reading import LiveConstraint, LiveSequence, LiveType


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
            options = f"SUBTYPE = {found.subtype}, MULTIRANGE_TYPE_NAME = {found.multirange}"
            return f"CREATE TYPE {found.name} AS RANGE ({options})"
        case "d":
            return _create_domain(found, checks)
    return None


def _create_domain(found: LiveType, checks: list[LiveConstraint]) -> str:
    parts = [f"CREATE DOMAIN {found.name} AS {found.base}"]
    if found.collation:
        parts.append(f"COLLATE {found.collation}")
    if found.default is not None:
        parts.append(f"DEFAULT {found.default}")
    if found.not_null:
        parts.append("NOT NULL")
    parts += [f"CONSTRAINT {check.quoted} {check.definition}" for check in checks]
    return " ".join(parts)


def sequence_clause(sequence: LiveSequence) -> str:
    """The options of ``CREATE SEQUENCE`` and of an identity alike, without the type."""
    cycle = "CYCLE" if sequence.cycle else "NO CYCLE"
    return (
        f"INCREMENT BY {sequence.increment} MINVALUE {sequence.least} MAXVALUE {sequence.greatest} "
        f"START WITH {sequence.start} CACHE {sequence.cache} {cycle}"
    )


def advance_sequence(name: str, sequence: LiveSequence, columns: Iterable[tuple[str, str]]) -> str:
    """Past the greatest value in ``columns`` (relation and column): where the source's stands is not one tenant's."""
    farthest = "max" if sequence.increment > 0 else "min"
    values = " UNION ALL ".join(
        f"SELECT {farthest}({column}) AS value FROM {relation}"  # noqa: S608 - names as PostgreSQL quotes them
        for relation, column in columns
    )
    return (
        f"SELECT pg_catalog.setval({name}, {farthest}(value)) FROM ({values}) AS held "  # noqa: S608 - the same
        f"HAVING {farthest}(value) BETWEEN {sequence.least} AND {sequence.greatest}"
    )
