"""How one tenant's id is spelled in rows: `ACME` of a citext key is `acme` to the database, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TenantScope
from export_pipelines.sources.relation import count_same

Ask = Callable[[sql.Composed], tuple[Any, ...]]
"""Runs a statement that answers one row."""


class Spellings:
    """What the database takes for the tenant's id, asked once for each text of a table."""

    def __init__(self, catalog: Catalog, scope: TenantScope, ask: Ask) -> None:
        self._catalog = catalog
        self._scope = scope
        self._ask = ask
        self._known: dict[str, set[str]] = {}

    def same(self, table: str, texts: list[str]) -> bool:
        """Whether all these texts are the tenant's id. Where nothing is known of how keys compare, only the id is."""
        if table not in self._catalog.resolution.owners:
            return False
        known = self._known.setdefault(table, set())
        new = [text for text in texts if text not in known]
        if new and self._ask(count_same(self._catalog, table, new, self._scope))[0] != len(new):
            return False
        known.update(new)
        return True

    def of(self, table: str) -> frozenset[str]:
        """The texts that were the tenant's id to the database only."""
        return frozenset(self._known.get(table, ()))
