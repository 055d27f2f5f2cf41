"""`catalog check`, the part that an export decides: whether each table's rows can be read as the reader role.

What the system catalogs and the policies tell is `export_pipelines.catalog.check`.
"""

from __future__ import annotations

from collections.abc import Iterable

from export_pipelines.catalog.findings import Finding, error, warning
from export_pipelines.catalog.resolving import resolve
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.model import TenantScope
from export_pipelines.core.types import base_type, normalize
from export_pipelines.sources.engines import Engine
from export_pipelines.sources.stream import detail_of, sqlstate_of
from export_pipelines.sources.trial import TIMEOUT_SECONDS, first_tenant, try_tables

_QUERY_CANCELED = "57014"
_UNCOMPARABLE = ("42883", "42804", "42725")  # undefined_function, datatype_mismatch, ambiguous_function
_INSUFFICIENT_PRIVILEGE = "42501"
_NEXT_STEPS = {  # by the beginning of the SQLSTATE
    _INSUFFICIENT_PRIVILEGE: "grant what it asks for; `export-pipelines catalog rls` prints the rights of the tables",
    "42": "correct the catalog, or the view or policy that names it",
    "3F": "correct the catalog, or the view or policy that names it",
    "XX": "repair the database, or restore it from a backup",
    "22": "correct the view, policy or column that computes it, or exclude the column",
}
_ANY_STEP = "correct the view, policy or function that it comes from, or exclude the table"


def try_exports(url: str, catalog: Catalog, tables: Iterable[str], engine: Engine) -> list[Finding]:
    """What exports of the first tenant, and of the canary, would fail with; the first rows of each table are read.

    Raises `Unavailable` where the source does not answer.
    """
    names = list(tables)
    try:
        tenants = _tenants(url, catalog)
        findings = [
            finding
            for scope in tenants
            for name, problem in try_tables(url, catalog, scope, names, engine, resolve).items()
            for finding in [_finding(catalog, name, problem)]
        ]
    except RequestRejected as problem:
        return [error(f"no export can begin: {_reason(problem)}", _step(problem))]
    if not tenants:
        step = "insert one, or correct `tenant.table`"
        return [warning(f"{catalog.tenant.table} has no tenant, so no export was tried", step)]
    return list(dict.fromkeys(findings))


def _tenants(url: str, catalog: Catalog) -> list[TenantScope]:
    first = first_tenant(url, catalog)
    canary = TenantScope(tenant_id=catalog.canary.tenant) if catalog.canary else None
    return [scope for scope in (first, canary) if scope is not None]


def _finding(catalog: Catalog, name: str, problem: ExportError) -> Finding:
    state = sqlstate_of(problem.__cause__)
    if state == _QUERY_CANCELED:
        step = "create an index that starts with the columns of its tenant path"
        return warning(f"its first rows took longer than {TIMEOUT_SECONDS} s", step, table=name)
    if isinstance(problem, Unavailable):
        raise problem
    mismatch = _mismatch(catalog, name)
    if mismatch is not None and (state.startswith(_UNCOMPARABLE) or isinstance(problem, IntegrityViolation)):
        column, is_type = mismatch
        message = (
            f"its exports fail: {column} is {is_type}, `tenant.type` is {catalog.tenant.type} ({_reason(problem)})"
        )
        return error(
            message, f"set `tenant.type` to {is_type}, or give {column} the type of the tenant's key", table=name
        )
    return error(f"its exports fail: {_reason(problem)}", _step(problem), table=name)


def _mismatch(catalog: Catalog, name: str) -> tuple[str, str] | None:
    """(column, its type) where the tenant's column, at the end of the path, is of another type than `tenant.type`."""
    if catalog.tables[name].tenant.shared is not None:
        return None
    route = catalog.tenant_route(name)
    owner = route[-1][1].references if route else name
    column = str(catalog.tables[owner].tenant.column)
    is_type = catalog.tables[owner].columns[column].type
    if base_type(normalize(is_type)) == base_type(normalize(catalog.tenant.type)):
        return None
    return f"{owner}.{column}", is_type


def _reason(problem: ExportError) -> str:
    cause = problem.__cause__
    if cause is not None and sqlstate_of(cause) and not isinstance(problem, IntegrityViolation):
        return detail_of(cause)
    return problem.message if isinstance(problem, RequestRejected) else str(problem)


def _step(problem: ExportError) -> str:
    state = sqlstate_of(problem.__cause__)
    found = [step for beginning, step in _NEXT_STEPS.items() if state.startswith(beginning)]
    return found[0] if found else _ANY_STEP
