"""The session setting by which the application's own policies tell tenants apart, so that exports may set the same.

A policy for everybody binds the reader role too. One that compares ``current_setting('app.tenant_id')`` hides all rows
from a session that sets another one, or fails; so the catalog's ``tenant.setting`` should be that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

from export_pipelines.catalog.inventory import LiveTable
from export_pipelines.catalog.naming import words_of
from export_pipelines.catalog.policies import read_row_security
from export_pipelines.catalog.tenancy import Root
from export_pipelines.core.catalog import TenantRoot

SETTING = re.compile(r"current_setting\('([a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+)'")
_GENERAL = ("tenant",)


def settings_of(expression: str | None) -> set[str]:
    """The settings, other than PostgreSQL's own, that an expression of a policy reads."""
    return set(SETTING.findall(expression or ""))


def application_setting(
    connection: psycopg.Connection[Any], tables: Iterable[LiveTable], root: Root, columns: Mapping[int, str]
) -> str | None:
    """The setting that most policies compare a tenant column with; None where there is none, or two are as usual.

    A setting counts if a policy names it beside the table's tenant column, or if its own name speaks of the tenant.
    """
    chosen = {(table.schema, table.name): columns.get(table.oid) for table in tables}
    of_tenant = {*_GENERAL, *words_of(root.table.name), *(word for word in words_of(root.column) if word != "id")}
    counts: Counter[str] = Counter()
    for place, row in read_row_security(connection, chosen, "").items():
        column = chosen[place]
        expressions = [
            policy.using for policy in row.policies if policy.using and not policy.name.startswith("export_")
        ]
        found = {
            name
            for expression in expressions
            for name in settings_of(expression)
            if set(words_of(name.rpartition(".")[2])) & of_tenant or _compares(expression, column, name)
        }
        counts.update(found)
    best = [name for name, count in counts.items() if count == max(counts.values())]
    default = TenantRoot.model_fields["setting"].default
    return best[0] if len(best) == 1 and best[0] != default else None


def _compares(expression: str, column: str | None, setting: str) -> bool:
    """``(tenant_id)::text = current_setting('app.customer'`` and the like; nothing may come between but casts."""
    if column is None:
        return False
    between = r"\)*(?:::[a-z ]+)?\)* = \(*(?:NULLIF\()?(?:\( SELECT )?\(*"
    return (
        re.search(rf"\b{re.escape(column)}\b\"?{between}current_setting\('{re.escape(setting)}'", expression)
        is not None
    )
