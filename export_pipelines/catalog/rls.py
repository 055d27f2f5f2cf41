"""Row-level security for the reader role, as SQL, without changing what anybody else sees or may write.

PostgreSQL lets nobody but the owner see rows once row-level security is switched on, so tables where it was off
first get a policy that keeps everything as it was; the reader role alone is then narrowed by a restrictive one.

What row-level security itself forbids cannot be kept: `COPY … FROM` into the table and `pg_dump` by roles without
BYPASSRLS (with FORCE, also by an owner who is no superuser). So FORCE is not the default: it would break an
application that bulk-loads or backs up as the owner, and the reader role is bound either way, because it never is
the owner and every extraction checks that (docs/adr/0005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql

from export_pipelines.catalog.access import needed_columns
from export_pipelines.catalog.inventory import Kind, pinned
from export_pipelines.catalog.policies import RowSecurity, membership, read_role, read_row_security
from export_pipelines.catalog.predicate import TENANT_ONLY, TENANT_READ, current_tenant, mark_of, tenant_predicate
from export_pipelines.catalog.resolving import resolve, tenant_place
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected, Unavailable

KEEP_ACCESS = "export_keep_access"
KEEP_OWNER = "export_keep_owner"
SHARED_READ = "export_shared_read"
TENANT_LIST = "export_tenant_list"
OWN_POLICIES = frozenset({KEEP_ACCESS, KEEP_OWNER, TENANT_READ, TENANT_ONLY, SHARED_READ, TENANT_LIST})

LOCK_TIMEOUT_SECONDS = 10  # switching policies waits for every open query on the table; the application comes first

# What `rls_removal` takes for ours. The policy says what was switched on along with it, so that it can be undone.
KEEP_COMMENT = "Access as it was before the export policies. Drop it when the application gets policies of its own."
KEEP_COMMENT_FORCED = f"{KEEP_COMMENT} FORCE ROW LEVEL SECURITY was set along with it."
ROLE_COMMENT = "Made by `export-pipelines catalog rls`, which removes it with `--remove`."

_GRANTED = """
SELECT n.nspname AS schema, c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.rolname = %(role)s
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (EXISTS (SELECT FROM aclexplode(c.relacl) acl WHERE acl.grantee = r.oid)
    OR EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) acl WHERE a.attrelid = c.oid AND acl.grantee = r.oid))
ORDER BY 1, 2
"""

_INHERITORS = """
SELECT m.rolname::text AS name FROM pg_roles m JOIN pg_roles r ON r.rolname = %(role)s
WHERE m.oid <> r.oid AND NOT m.rolsuper AND m.rolname = ANY(%(owners)s::name[]) AND pg_has_role(m.oid, r.oid, 'USAGE')
ORDER BY 1
"""

Place = tuple[str, str]  # (schema, name) in PostgreSQL


def rls_sql(connection: psycopg.Connection[Any], catalog: Catalog, *, force: bool = False) -> list[str]:
    """Statements, without semicolons, that isolate the catalog's tables for its reader role.

    Meant for one transaction; they follow from the database as it is now. Raises `RequestRejected` where they would
    change what the application sees, or where the catalog does not fit the database.
    """
    places = {name: catalog.relation_name(name) for name in catalog.tables}
    protection = read_row_security(connection, places.values(), catalog.reader_role)
    _refuse_unsafe(connection, catalog, places, protection)
    catalog = catalog.resolved(resolve(connection, catalog, catalog.tables))
    statements = [*_role(connection, catalog)]
    for name, place in places.items():
        statements.extend(_grants(catalog, name, place))
        row = protection[place]
        if catalog.tables[name].tenant.shared is not None:
            statements.extend(_shared(catalog, place, row))
        elif row.kind is not Kind.VIEW:
            predicate = tenant_predicate(catalog, name, current_tenant(catalog))
            statements.extend(_switch_on(place, row, force=force))
            statements.extend(_isolate(catalog, place, row, predicate))
    statements.extend(_tenant_list(catalog, connection))
    return [statement.as_string(connection) for statement in statements]


def apply_rls(connection: psycopg.Connection[Any], catalog: Catalog, *, force: bool = False) -> list[str]:
    """Run `rls_sql` in one transaction and answer what was run. A second run changes nothing.

    Raises `RequestRejected` when this role may not, `Unavailable` when the tables are too busy to be locked.
    """
    return run_once(connection, lambda: rls_sql(connection, catalog, force=force))


def run_once(connection: psycopg.Connection[Any], make: Callable[[], list[str]]) -> list[str]:
    """Make statements and run them, in one transaction; errors as of `apply_rls`."""
    try:
        with connection.transaction(), _settings(connection):
            statements = make()
            for statement in statements:
                connection.execute(statement.encode())
    except errors.InsufficientPrivilege as error:
        raise RequestRejected(
            f"{connection.info.user!r} may not set up or remove row-level security: {error.diag.message_primary}; "
            "connect as the owner of the tables with CREATEROLE, or as a superuser"
        ) from error
    except psycopg.ProgrammingError as error:
        raise RequestRejected(
            f"the catalog does not fit the database: {error.diag.message_primary}; run `export-pipelines catalog check`"
        ) from error
    except psycopg.OperationalError as error:
        raise Unavailable(
            f"row-level security could not be changed, waiting at most {LOCK_TIMEOUT_SECONDS} s for each lock; "
            f"nothing was changed, try again at a quieter time: {error.diag.message_primary or error}"
        ) from error
    return statements


def login_sql(catalog: Catalog, role_name: str) -> list[str]:
    """Statements that make the login with which the service connects; its password is the operator's to set.

    It inherits nothing: for one transaction it becomes the reader, or the role that lists tenants.
    """
    statement = sql.SQL(
        "CREATE ROLE {} LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE IN ROLE {}, {}"
    ).format(sql.Identifier(role_name), sql.Identifier(catalog.reader_role), sql.Identifier(catalog.directory_role))
    return [statement.as_string(None)]


@contextmanager
def _settings(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Patience and search path for the statements; the caller may have a transaction open, and keeps its own."""
    wanted = {
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
        "search_path": "pg_catalog",  # a type or operator of somebody else's must not find its way into a policy
        "client_min_messages": "warning",
    }
    before = {name: connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in wanted}
    for name, value in wanted.items():
        connection.execute("SELECT set_config(%s, %s, true)", [name, value])
    yield
    for name, row in before.items():
        connection.execute("SELECT set_config(%s, %s, true)", [name, *(row or ())])


def _refuse_unsafe(
    connection: psycopg.Connection[Any],
    catalog: Catalog,
    places: dict[str, Place],
    protection: dict[Place, RowSecurity],
) -> None:
    problems = []
    for name, place in places.items():
        row = protection.get(place)
        if row is None:
            problems.append(f"{name}: {'.'.join(place)} does not exist; run `export-pipelines catalog check`")
        elif row.kind in (Kind.MATERIALIZED, Kind.FOREIGN) and catalog.tables[name].tenant.shared is None:
            problems.append(f"{name}: cannot have row-level security; list it under excluded")
        elif not row.enabled and any(not policy.permissive for policy in _foreign_policies(row)):
            problems.append(
                f"{name}: has a restrictive policy but row-level security is off, and switching it on would bind the "
                "application too; drop that policy or enable row-level security yourself first"
            )
    role = read_role(connection, catalog.reader_role)
    if role is not None and (role.superuser or role.bypasses or role.privileged_through):
        problems.append(f"reader role {role.name!r} is exempt from row-level security; name another reader_role")
    owners = sorted({row.owner for row in protection.values()})
    with pinned(connection) as cursor:
        cursor.execute(_INHERITORS, {"role": catalog.reader_role, "owners": owners})
        bound = [row["name"] for row in cursor.fetchall()]
    if bound:
        steps = [membership(connection, catalog.reader_role, owner) for owner in bound]
        problems.append(
            f"owner {', '.join(bound)} inherits {catalog.reader_role!r} and would be narrowed too; {'; '.join(steps)}"
        )
    if problems:
        raise RequestRejected("\n".join(["row-level security cannot be set up:", *(f"  {p}" for p in problems)]))


def _role(connection: psycopg.Connection[Any], catalog: Catalog) -> Iterator[sql.Composed]:
    """The role and its schemas; what it was once granted on tables that the catalog no longer has is taken back."""
    role = sql.Identifier(catalog.reader_role)
    if read_role(connection, catalog.reader_role) is None:
        yield from _created(role)
    exported = {catalog.relation_name(name) for name in catalog.tables}
    with pinned(connection) as cursor:
        granted = cursor.execute(_GRANTED, {"role": catalog.reader_role}).fetchall()
    for row in granted:
        if (row["schema"], row["name"]) not in exported:
            yield sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier(row["schema"], row["name"]), role)
    for schema in sorted({schema for schema, _ in exported} | catalog.resolution.schemas):  # those of key types, too
        yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role)


def _created(role: sql.Identifier) -> Iterator[sql.Composed]:
    yield sql.SQL("CREATE ROLE {} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE").format(role)
    yield sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(ROLE_COMMENT))


def _grants(catalog: Catalog, name: str, place: Place) -> Iterator[sql.Composed]:
    role, table = sql.Identifier(catalog.reader_role), sql.Identifier(*place)
    columns = sql.SQL(", ").join(sql.Identifier(column) for column in needed_columns(catalog, name))
    yield sql.SQL("REVOKE ALL ON {} FROM {}").format(table, role)
    yield sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(columns, table, role)


def _switch_on(place: Place, row: RowSecurity, *, force: bool) -> Iterator[sql.Composed]:
    """Row-level security on, with nobody's rows changed by it."""
    table = sql.Identifier(*place)
    forcing = force and not row.forced
    if row.enabled and any(not policy.permissive for policy in _foreign_policies(row)):
        forcing = False  # FORCE would bind the owner to restrictive policies that never were meant for it
    if not row.enabled:
        yield from _keep(KEEP_ACCESS, place, row, sql.SQL("PUBLIC"), forced=forcing)
        yield sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table)
    if not forcing:
        return
    if row.enabled and row.policy(KEEP_ACCESS) is None:
        yield from _keep(KEEP_OWNER, place, row, sql.Identifier(row.owner), forced=True)
    elif row.enabled:
        yield _comment(KEEP_ACCESS, place, KEEP_COMMENT_FORCED)
    yield sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table)


def _keep(
    name: str, place: Place, row: RowSecurity, audience: sql.Composable, *, forced: bool
) -> Iterator[sql.Composed]:
    policy, table = sql.Identifier(name), sql.Identifier(*place)
    before = row.policy(name)
    forced = forced or (before is not None and before.comment == KEEP_COMMENT_FORCED)
    if row.policy(name) is not None:
        yield sql.SQL("DROP POLICY {} ON {}").format(policy, table)
    yield sql.SQL("CREATE POLICY {} ON {} AS PERMISSIVE FOR ALL TO {} USING (true) WITH CHECK (true)").format(
        policy, table, audience
    )
    yield _comment(name, place, KEEP_COMMENT_FORCED if forced else KEEP_COMMENT)


def _comment(policy: str, place: Place, text: str) -> sql.Composed:
    return sql.SQL("COMMENT ON POLICY {} ON {} IS {}").format(
        sql.Identifier(policy), sql.Identifier(*place), sql.Literal(text)
    )


def _isolate(catalog: Catalog, place: Place, row: RowSecurity, predicate: sql.Composed) -> Iterator[sql.Composed]:
    yield from _dropped(place, row, (SHARED_READ, TENANT_READ, TENANT_ONLY))
    for name, mode in ((TENANT_READ, sql.SQL("PERMISSIVE")), (TENANT_ONLY, sql.SQL("RESTRICTIVE"))):
        yield sql.SQL("CREATE POLICY {} ON {} AS {} FOR SELECT TO {} USING ({})").format(
            sql.Identifier(name),
            sql.Identifier(*place),
            mode,
            sql.Identifier(catalog.reader_role),
            predicate,
        )
        yield sql.SQL("COMMENT ON POLICY {} ON {} IS {}").format(
            sql.Identifier(name), sql.Identifier(*place), sql.Literal(mark_of(predicate))
        )


def _shared(catalog: Catalog, place: Place, row: RowSecurity) -> Iterator[sql.Composed]:
    """Reference data, the same for every tenant; a policy is needed only where the application has some."""
    yield from _dropped(place, row, (SHARED_READ, TENANT_READ, TENANT_ONLY))
    if row.enabled:
        yield sql.SQL("CREATE POLICY {} ON {} AS PERMISSIVE FOR SELECT TO {} USING (true)").format(
            sql.Identifier(SHARED_READ), sql.Identifier(*place), sql.Identifier(catalog.reader_role)
        )


def _dropped(place: Place, row: RowSecurity, names: tuple[str, ...]) -> Iterator[sql.Composed]:
    for name in names:
        if row.policy(name) is not None:
            yield sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(name), sql.Identifier(*place))


def _tenant_list(catalog: Catalog, connection: psycopg.Connection[Any]) -> Iterator[sql.Composed]:
    """The directory role, which reads key and label of the tenants and nothing else."""
    place = tenant_place(catalog)
    role, table = sql.Identifier(catalog.directory_role), sql.Identifier(*place)
    if read_role(connection, catalog.directory_role) is None:
        yield from _created(role)
    of_key = catalog.resolution.key.schemas if catalog.resolution.key else frozenset()
    for schema in sorted({place[0]} | of_key):
        yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role)
    yield sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(_tenant_columns(catalog), table, role)
    row = read_row_security(connection, [place], catalog.reader_role).get(place)
    exported = any(catalog.relation_name(name) == place for name in catalog.tables)
    if row is not None and (row.enabled or exported):
        yield from _dropped(place, row, (TENANT_LIST,))
        yield sql.SQL("CREATE POLICY {} ON {} AS PERMISSIVE FOR SELECT TO {} USING (true)").format(
            sql.Identifier(TENANT_LIST), table, role
        )


def _tenant_columns(catalog: Catalog) -> sql.Composed:
    named = [catalog.tenant.key, *([catalog.tenant.label] if catalog.tenant.label else [])]
    return sql.SQL(", ").join(sql.Identifier(column) for column in named)


def _foreign_policies(row: RowSecurity) -> list[Any]:
    return [policy for policy in row.policies if policy.name not in OWN_POLICIES]
