"""What only the live database knows of a catalog's tables, for the SQL that selects their rows.

A catalog alone does not say which operator compares a key, nor whether other tables inherit from one. The facts are
read by `export_pipelines.catalog.resolving` and go with the catalog (`Catalog.resolved`) to whoever writes SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Join = tuple[str, str, str, str]  # table, column, referenced table, referenced column


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a column is compared with the key that it refers to: as a foreign key between the two compares them.

    Names are as PostgreSQL quotes them, with their schema, so that nothing on a search path can stand in for them.
    Types have no length: a cast to ``varchar(3)`` would cut a longer id down to another tenant's.
    """

    operator: str = "pg_catalog.="
    column_type: str = "text"
    column_cast: str | None = None
    key_cast: str | None = None
    collation: str | None = None  # that of the key, where it or the column's takes different texts for the same
    collates: bool = False  # whether a column has to be given it
    schemas: frozenset[str] = frozenset()  # of these names; a role that writes them needs USAGE
    problem: str | None = None  # why a foreign key could not compare the two

    @property
    def form(self) -> str:
        """SQL with two places, for the column and the key, as `psycopg.sql.SQL` fills them."""
        return self._form(_cast(self.column_cast), self.collation if self.collates else None)

    @property
    def form_of_texts(self) -> str:
        """The same for a value of the column that is given as text."""
        return self._form(_cast(self.column_type) + _cast(self.column_cast), self.collation)

    def _form(self, casts: str, collation: str | None) -> str:
        column = "{}" + casts + (f" COLLATE {_literally(collation)}" if collation else "")
        return f"{column} OPERATOR({_literally(self.operator)}) {{}}{_cast(self.key_cast)}"


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Facts about the tables of a catalog that were asked for, and those on their way to the tenant."""

    key: Comparison | None = None  # of the tenants' table, with an id
    owners: Mapping[str, Comparison] = field(default_factory=dict)  # by table: its tenant column, with an id
    joins: Mapping[Join, Comparison] = field(default_factory=dict)
    parents: frozenset[str] = frozenset()  # tables, not partitioned, that others inherit from

    @property
    def schemas(self) -> frozenset[str]:
        """Schemas, other than PostgreSQL's own, of what the SQL names beside tables."""
        compared = [*self.owners.values(), *self.joins.values(), *([self.key] if self.key else [])]
        return frozenset().union(*(comparison.schemas for comparison in compared))


def _cast(name: str | None) -> str:
    return f"::{_literally(name)}" if name else ""


def _literally(name: str) -> str:
    """Braces are places of a template."""
    return name.replace("{", "{{").replace("}", "}}")
