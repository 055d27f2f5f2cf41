"""Row-level security for the reader role: it sees one tenant, and nobody else notices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from export_pipelines.catalog.check import check, policies_hash
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls, login_sql, rls_sql
from export_pipelines.catalog.rls_removal import kept_roles, removal_sql, remove_rls
from export_pipelines.core.catalog import Catalog, Relation, TenantPath
from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines_tests.samples import load_sample

Database = Callable[[str], str]

APPLICATION = """
CREATE TABLE tenant (id varchar(4) PRIMARY KEY, name text);
CREATE TABLE goal (id int PRIMARY KEY, tenant_id varchar(4) NOT NULL REFERENCES tenant, title text, password text);
CREATE TABLE step (id int PRIMARY KEY, goal_id int NOT NULL REFERENCES goal ON DELETE CASCADE, done boolean);
INSERT INTO tenant VALUES ('a', 'A'), ('b', 'B'), ('ab', 'AB');
INSERT INTO goal SELECT row_number() OVER (ORDER BY id), id, 'title', 'secret' FROM tenant, generate_series(1, 2);
INSERT INTO step SELECT g.id * 10 + n, g.id, n = 1 FROM goal g, generate_series(1, 3) n;
"""

# What an application may have done before: nothing, policies on a setting of its own, forced ones, none at all.
_OWN = """
CREATE POLICY app ON {t} FOR ALL TO PUBLIC
    USING ({c} = nullif(current_setting('app.tenant', true), '')::varchar)
    WITH CHECK ({c} = nullif(current_setting('app.tenant', true), '')::varchar)
"""
_NARROW = "CREATE POLICY narrow ON goal AS RESTRICTIVE FOR ALL TO PUBLIC USING (id <> 1)"
_ENABLE = "ALTER TABLE tenant ENABLE ROW LEVEL SECURITY; ALTER TABLE goal ENABLE ROW LEVEL SECURITY"
_FORCE = "ALTER TABLE tenant FORCE ROW LEVEL SECURITY; ALTER TABLE goal FORCE ROW LEVEL SECURITY"
_BOTH = _OWN.format(t="tenant", c="id") + ";" + _OWN.format(t="goal", c="tenant_id")
HISTORIES = {
    "no policies": "SELECT 1",
    "own policies": f"{_BOTH}; {_ENABLE}",
    "own policies forced": f"{_BOTH}; {_ENABLE}; {_FORCE}",
    "own restrictive policy": f"{_BOTH}; {_NARROW}; {_ENABLE}",
    "switched on without policies": _ENABLE,
    "policies but switched off": _BOTH,
    "everything open": "CREATE POLICY open ON goal USING (true); ALTER TABLE goal ENABLE ROW LEVEL SECURITY",
}

STATEMENTS = (
    "SELECT id, name FROM tenant ORDER BY id",
    "SELECT * FROM goal ORDER BY id",
    "SELECT * FROM step ORDER BY id",
    "SELECT id FROM goal ORDER BY id FOR UPDATE",
    "INSERT INTO goal VALUES (100, 'b', 'new', NULL) RETURNING id",
    "INSERT INTO goal VALUES (1, 'a', 'x', NULL) ON CONFLICT (id) DO UPDATE SET title = 'upserted' RETURNING id",
    "INSERT INTO step VALUES (1000, 1, false) RETURNING id",
    "UPDATE goal SET title = 'changed' RETURNING id",
    "UPDATE goal SET tenant_id = 'b' WHERE tenant_id = 'a' RETURNING id",
    "DELETE FROM goal RETURNING id",
    "WITH gone AS (DELETE FROM step WHERE done RETURNING id) SELECT count(*) FROM gone",
    "MERGE INTO goal g USING tenant t ON g.tenant_id = t.id WHEN MATCHED THEN UPDATE SET title = t.name",
    "TRUNCATE step",
)


@dataclass(frozen=True, kw_only=True)
class Host:
    """An application's database with its owner and its own role, on a connection of a superuser."""

    connection: psycopg.Connection[Any]
    owner: str
    user: str
    reader: str

    def catalog(self) -> Catalog:
        found = reflect(self.connection, name="host", tenant_table="public.tenant").catalog
        tenant = found.tenant.model_copy(update={"setting": "export.tenant_id"})  # whatever the application has
        return found.model_copy(update={"reader_role": self.reader, "tenant": tenant})

    def rows(self, query: str, *, tenant: str | None, role: str | None = None) -> list[tuple[Any, ...]]:
        with acting(self.connection, role or self.reader):
            if tenant is not None:
                self.connection.execute("SELECT set_config('export.tenant_id', %s, true)", [tenant])
            return self.connection.execute(query.encode()).fetchall()


@contextmanager
def acting(connection: psycopg.Connection[Any], role: str) -> Iterator[None]:
    """As that role, for a transaction that is rolled back."""
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        yield


@pytest.fixture(scope="module")
def application(database: Database) -> Iterator[Host]:
    """The application before anybody thought of exports."""
    with psycopg.connect(database("host"), autocommit=True) as connection:
        number = connection.info.dbname.rpartition("_")[2]  # roles belong to the whole server
        host = Host(connection=connection, owner=f"owner_{number}", user=f"user_{number}", reader=f"reader_{number}")
        owner, user = sql.Identifier(host.owner), sql.Identifier(host.user)
        for role in (owner, user):
            connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(owner))
        connection.execute(sql.SQL("SET ROLE {}").format(owner))
        connection.execute(APPLICATION.encode())
        connection.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(user))
        connection.execute("RESET ROLE")
        yield host


@pytest.fixture
def host(application: Host) -> Iterator[Host]:
    """The same for each test: whatever a test does is rolled back, roles included."""
    with application.connection.transaction(force_rollback=True):
        yield application


def experience(host: Host, role: str) -> list[object]:
    """Everything a role sees and may write, with the application's tenant set and unset."""
    outcomes: list[object] = []
    for tenant, statement in itertools.product(("", "a"), STATEMENTS):
        with acting(host.connection, role):
            host.connection.execute("SELECT set_config('app.tenant', %s, true)", [tenant])
            try:
                with host.connection.transaction():
                    cursor = host.connection.execute(statement.encode())
                    outcomes.append(cursor.fetchall() if cursor.description else cursor.rowcount)
            except psycopg.Error as problem:
                outcomes.append(problem.sqlstate)
    return outcomes


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("history", HISTORIES)
def test_the_application_sees_and_writes_what_it_did_before(host: Host, history: str, force: bool) -> None:
    host.connection.execute(HISTORIES[history].encode())
    before = [experience(host, host.owner), experience(host, host.user)]
    for _ in range(2):
        apply_rls(host.connection, host.catalog(), force=force)
        assert [experience(host, host.owner), experience(host, host.user)] == before


def test_copy_into_a_table_is_left_to_those_whom_row_level_security_does_not_bind(host: Host) -> None:
    """PostgreSQL refuses COPY FROM under row-level security; without FORCE the owner is spared."""

    def copy(role: str) -> None:
        with acting(host.connection, role), host.connection.cursor().copy("COPY goal FROM STDIN") as target:
            target.write_row((100, "a", "copied", None))

    apply_rls(host.connection, host.catalog(), force=False)
    copy(host.owner)
    with pytest.raises(errors.FeatureNotSupported):
        copy(host.user)
    apply_rls(host.connection, host.catalog(), force=True)
    with pytest.raises(errors.FeatureNotSupported):
        copy(host.owner)


@pytest.mark.parametrize("history", HISTORIES)
def test_the_reader_sees_its_tenant_and_no_other(host: Host, history: str) -> None:
    host.connection.execute(HISTORIES[history].encode())
    apply_rls(host.connection, host.catalog())
    hidden = 1 if "restrictive" in history else 0  # the application's own restriction still narrows
    assert host.rows("SELECT id FROM tenant", tenant="a") == [("a",)]
    assert host.rows("SELECT DISTINCT tenant_id FROM goal", tenant="a") == [("a",)]
    assert host.rows("SELECT count(*) FROM goal", tenant="a") == [(2 - hidden,)]
    assert host.rows("SELECT count(*) FROM step", tenant="a") == [(6 - 3 * hidden,)]
    assert [str(finding) for finding in check(host.connection, host.catalog())] == []


@pytest.mark.parametrize("table", ["tenant", "goal", "step"])
@pytest.mark.parametrize(
    "tenant", [None, "", "abc", "a ", "A", "a' OR 'a'='a", "%", "a\x01", "aaaaaaaa" * 1000, "\uff41"]
)
def test_no_setting_but_the_tenants_own_id_shows_rows(host: Host, table: str, tenant: str | None) -> None:
    apply_rls(host.connection, host.catalog())
    assert host.rows(f"SELECT 1 FROM {table}", tenant=tenant) == []


def test_a_longer_id_is_not_cut_down_to_another_tenants(host: Host) -> None:
    apply_rls(host.connection, host.catalog())
    host.connection.execute("INSERT INTO tenant VALUES ('abcd', 'x')")
    assert host.rows("SELECT id FROM tenant", tenant="abcd") == [("abcd",)]
    assert host.rows("SELECT id FROM tenant", tenant="abcdefgh") == []


def test_a_setting_of_the_wrong_type_is_an_error_and_not_a_leak(host: Host) -> None:
    host.connection.execute("CREATE TABLE n (id int PRIMARY KEY, org_id int); CREATE TABLE org (id int PRIMARY KEY)")
    host.connection.execute("ALTER TABLE n ADD FOREIGN KEY (org_id) REFERENCES org")
    found = reflect(host.connection, name="n", tenant_table="org").catalog
    apply_rls(host.connection, found.model_copy(update={"reader_role": host.reader}))
    with pytest.raises(errors.InvalidTextRepresentation):
        host.rows("SELECT 1 FROM n", tenant="1 OR true")


def test_the_reader_may_only_read_and_only_exported_columns(host: Host) -> None:
    apply_rls(host.connection, host.catalog())
    assert host.rows("SELECT count(*) FROM goal", tenant="a") == [(2,)]
    for statement in ("SELECT password FROM goal", "DELETE FROM goal", "UPDATE goal SET title = ''", "TRUNCATE goal"):
        with pytest.raises(errors.InsufficientPrivilege):
            host.rows(statement, tenant="a")


def test_a_masked_column_is_not_granted_but_one_on_the_path_is(host: Host) -> None:
    catalog = host.catalog()
    goal = catalog.tables["goal"]
    columns = goal.columns | {
        "title": goal.columns["title"].model_copy(update={"mask": "private"}),
        "tenant_id": goal.columns["tenant_id"].model_copy(update={"exclude": "internal"}),
    }
    tables = catalog.tables | {"goal": goal.model_copy(update={"columns": columns})}
    apply_rls(host.connection, catalog.model_copy(update={"tables": tables}))
    assert host.rows("SELECT count(*) FROM step", tenant="a") == [(6,)]
    with pytest.raises(errors.InsufficientPrivilege):
        host.rows("SELECT title FROM goal", tenant="a")


def test_a_second_run_leaves_the_same_policies(host: Host) -> None:
    catalog = host.catalog()
    apply_rls(host.connection, catalog)
    first = policies_hash(host.connection, catalog)
    apply_rls(host.connection, catalog)
    assert policies_hash(host.connection, catalog) == first


def test_the_callers_transaction_keeps_its_settings(host: Host) -> None:
    settings = "SELECT current_setting('search_path'), current_setting('lock_timeout'), current_user"
    host.connection.execute("SET LOCAL search_path = public, nowhere")
    before = host.connection.execute(settings).fetchone()
    apply_rls(host.connection, host.catalog())
    assert host.connection.execute(settings).fetchone() == before


def test_a_table_taken_out_of_the_catalog_is_taken_from_the_reader(host: Host) -> None:
    catalog = host.catalog()
    apply_rls(host.connection, catalog)
    kept = {name: table for name, table in catalog.tables.items() if name != "step"}
    apply_rls(host.connection, catalog.model_copy(update={"tables": kept}))
    with pytest.raises(errors.InsufficientPrivilege):
        host.rows("SELECT 1 FROM step", tenant="a")


def test_a_shared_table_is_read_whole_whatever_its_policies(host: Host) -> None:
    host.connection.execute(HISTORIES["own policies"].encode())
    catalog = host.catalog()
    step = catalog.tables["step"].model_copy(update={"tenant": TenantPath(shared="demo steps, the same for all")})
    goal = catalog.tables["goal"].model_copy(update={"tenant": TenantPath(shared="demo goals, the same for all")})
    shared = catalog.model_copy(update={"tables": catalog.tables | {"step": step, "goal": goal}})
    for version in (catalog, shared):
        apply_rls(host.connection, version)
    assert host.rows("SELECT count(*) FROM goal", tenant="a") == [(6,)]
    assert host.rows("SELECT count(*) FROM step", tenant="a") == [(18,)]
    assert [str(finding) for finding in check(host.connection, shared)] == []
    apply_rls(host.connection, catalog)
    assert host.rows("SELECT count(*) FROM goal", tenant="a") == [(2,)]


def test_a_path_may_be_virtual_and_several_tables_long(host: Host) -> None:
    host.connection.execute(
        "CREATE TABLE mark (id int PRIMARY KEY, step_no int); INSERT INTO mark VALUES (1, 11), (2, 51)"
    )
    catalog = host.catalog()
    base = catalog.tables["step"]
    mark = base.model_copy(
        update={
            "columns": {"id": base.columns["id"], "step_no": base.columns["id"]},
            "relations": {
                "s": Relation(columns=("step_no",), references="step", referenced_columns=("id",), virtual=True)
            },
            "tenant": TenantPath(through="s"),
        }
    )
    catalog = catalog.model_copy(update={"tables": catalog.tables | {"mark": mark}})
    apply_rls(host.connection, catalog)
    assert host.rows("SELECT id FROM mark", tenant="a") == [(1,)]
    assert host.rows("SELECT id FROM mark", tenant="b") == [(2,)]


def test_names_that_a_hostile_search_path_could_replace_are_pinned(host: Host) -> None:
    host.connection.execute(
        """
        CREATE FUNCTION public.always(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.always);
        """
    )
    apply_rls(host.connection, host.catalog())
    assert host.rows("SELECT DISTINCT tenant_id FROM goal", tenant="a") == [("a",)]


@pytest.mark.parametrize(
    ("name", "tenants"), [("filmrental", ("1", "2", "3")), ("orders", ("ACME", "ACMEX", "o'neil"))]
)
def test_tenants_of_a_sample_add_up_to_the_whole(database: Database, name: str, tenants: tuple[str, ...]) -> None:
    url = database(name)
    load_sample(url, name)
    reader = f"reader_sum_{name}"
    with psycopg.connect(url, autocommit=True) as connection:
        catalog = reflect(connection, name=name).catalog.model_copy(update={"reader_role": reader})
        apply_rls(connection, catalog)
        for key in catalog.tables:
            count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*catalog.relation_name(key)))
            whole = connection.execute(count).fetchone()
            parts = []
            for tenant in tenants:
                with acting(connection, reader):
                    connection.execute("SELECT set_config('export.tenant_id', %s, true)", [tenant])
                    parts.append(connection.execute(count).fetchone())
            assert sum(part[0] for part in parts if part) == (whole or (None,))[0], key
            assert all(part and part[0] for part in parts), key


def test_dormant_restrictive_policies_are_not_woken(host: Host) -> None:
    host.connection.execute(_NARROW)
    with pytest.raises(RequestRejected, match="goal: has a restrictive policy but row-level security is off"):
        rls_sql(host.connection, host.catalog())


def test_an_exempt_reader_role_is_refused(host: Host) -> None:
    host.connection.execute(sql.SQL("CREATE ROLE {} BYPASSRLS").format(sql.Identifier(host.reader)))
    with pytest.raises(RequestRejected, match="is exempt from row-level security; name another reader_role"):
        apply_rls(host.connection, host.catalog())


def test_an_owner_who_inherits_the_reader_would_be_narrowed_and_is_refused(host: Host) -> None:
    for statement in ("CREATE ROLE {reader}", "GRANT {reader} TO {owner}"):
        host.connection.execute(
            sql.SQL(statement).format(reader=sql.Identifier(host.reader), owner=sql.Identifier(host.owner))
        )
    with pytest.raises(RequestRejected, match=r"would be narrowed too; GRANT .* WITH INHERIT FALSE, SET TRUE"):
        apply_rls(host.connection, host.catalog())


def test_a_role_that_may_not_is_told_which_one_may(host: Host) -> None:
    catalog = host.catalog()
    host.connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(host.user)))
    with pytest.raises(RequestRejected, match="connect as the owner of the tables"):
        apply_rls(host.connection, catalog)


def test_a_catalog_that_does_not_fit_changes_nothing(host: Host) -> None:
    catalog = host.catalog()
    host.connection.execute("ALTER TABLE step DROP COLUMN done")
    with pytest.raises(RequestRejected, match='column "done" of relation "step" does not exist'):
        apply_rls(host.connection, catalog)
    assert host.connection.execute("SELECT count(*) FROM pg_policies").fetchone() == (0,)


def test_busy_tables_are_waited_for_only_so_long(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export_pipelines.catalog.rls.LOCK_TIMEOUT_SECONDS", 0.2)
    info = host.connection.info
    with psycopg.connect(info.dsn, password=info.password) as other:
        other.execute("SELECT * FROM goal")
        with pytest.raises(Unavailable, match="nothing was changed, try again at a quieter time"):
            apply_rls(host.connection, host.catalog())
    assert host.connection.execute("SELECT count(*) FROM pg_policies").fetchone() == (0,)


@pytest.mark.parametrize("history", ["no policies", "own policies"])
def test_the_login_sees_nothing_by_itself_and_lists_tenants_or_reads_one_by_its_roles(host: Host, history: str) -> None:
    host.connection.execute(HISTORIES[history].encode())
    catalog, login = host.catalog(), f"login {host.reader}"
    apply_rls(host.connection, catalog)
    for statement in login_sql(catalog, login):
        host.connection.execute(statement.encode())
    listed = host.rows("SELECT id, name FROM tenant ORDER BY id", tenant=None, role=catalog.directory_role)
    assert listed == [("a", "A"), ("ab", "AB"), ("b", "B")]
    for table, role in (("tenant", login), ("goal", login), ("goal", catalog.directory_role)):
        with pytest.raises(errors.InsufficientPrivilege):
            host.rows(f"SELECT 1 FROM {table}", tenant="a", role=role)
    host.connection.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(login)))
    assert host.rows("SELECT DISTINCT tenant_id FROM goal", tenant="b") == [("b",)]


# Removal ------------------------------------------------------------------------------------------------------------

_EVERYTHING = """
SELECT 'policy', c.relname, p.polname, p.polcmd::text, p.polpermissive::text, p.polroles::text,
       pg_get_expr(p.polqual, c.oid), obj_description(p.oid, 'pg_policy')
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
UNION ALL
SELECT 'table', c.relname, c.relrowsecurity::text, c.relforcerowsecurity::text, NULL, NULL, NULL, NULL
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'right', c.relname, a.grantee::regrole::text, a.privilege_type, a.is_grantable::text, NULL, NULL, NULL
FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'column', c.relname, a.grantee::regrole::text, a.privilege_type, t.attname, NULL, NULL, NULL
FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a
WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'schema', n.nspname, a.grantee::regrole::text, a.privilege_type, NULL, NULL, NULL, NULL
FROM pg_namespace n, aclexplode(n.nspacl) a
UNION ALL
SELECT 'role', rolname, shobj_description(oid, 'pg_authid'), NULL, NULL, NULL, NULL, NULL FROM pg_roles
ORDER BY 1, 2, 3, 4, 5
"""


def everything(host: Host) -> list[tuple[Any, ...]]:
    """Policies, switches, rights and roles of the database."""
    return host.connection.execute(_EVERYTHING).fetchall()


@pytest.mark.parametrize("force", [(False,), (True,), (False, True), (True, False)])
@pytest.mark.parametrize("history", HISTORIES)
def test_removal_leaves_what_was_there_before_and_nothing_else(
    host: Host, history: str, force: tuple[bool, ...]
) -> None:
    host.connection.execute(HISTORIES[history].encode())
    before = everything(host)
    for forced in force:
        apply_rls(host.connection, host.catalog(), force=forced)
    applied = everything(host)
    assert applied != before
    catalog = host.catalog()
    assert removal_sql(host.connection, catalog)
    assert everything(host) == applied  # printing changes nothing
    remove_rls(host.connection, catalog)
    assert everything(host) == before
    assert remove_rls(host.connection, catalog) == []


def test_removal_reaches_tables_that_left_the_catalog(host: Host) -> None:
    before, catalog = everything(host), host.catalog()
    apply_rls(host.connection, catalog)
    kept = {name: table for name, table in catalog.tables.items() if name != "step"}
    smaller = catalog.model_copy(update={"tables": kept})
    apply_rls(host.connection, smaller)
    remove_rls(host.connection, smaller)
    assert everything(host) == before


def test_removal_leaves_a_role_that_was_there_and_its_rights(host: Host) -> None:
    role = sql.Identifier(host.reader)
    host.connection.execute("CREATE TABLE other (id int)")
    host.connection.execute(sql.SQL("CREATE ROLE {}; GRANT SELECT ON other TO {}").format(role, role))
    host.connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
    catalog = host.catalog()
    tables = {name: table for name, table in catalog.tables.items() if name != "step"}
    catalog = catalog.model_copy(update={"tables": tables})
    before = everything(host)
    for statement in rls_sql(host.connection, catalog):
        if "other" not in statement:  # rights on tables that are not the catalog's are taken from the reader
            host.connection.execute(statement.encode())
    assert list(kept_roles(host.connection, catalog)) == [host.reader]
    remove_rls(host.connection, catalog)
    assert everything(host) == before


def test_policies_of_another_catalogs_reader_stay(host: Host) -> None:
    catalog = host.catalog()
    apply_rls(host.connection, catalog)
    applied = everything(host)
    other = catalog.model_copy(update={"reader_role": f"{host.reader}_other"})
    assert remove_rls(host.connection, other) == []
    assert everything(host) == applied


def test_a_role_with_rights_in_another_database_stays_until_the_last_one(host: Host, database: Database) -> None:
    catalog = host.catalog().model_copy(update={"reader_role": f"{host.reader}_shared"})
    info = host.connection.info
    with (
        psycopg.connect(info.dsn, password=info.password, autocommit=True) as here,
        psycopg.connect(database("second"), autocommit=True) as there,
    ):
        there.execute(APPLICATION.encode())
        for connection in (here, there):
            apply_rls(connection, catalog)
        assert not any("DROP ROLE" in statement for statement in remove_rls(here, catalog))
        assert set(kept_roles(here, catalog)) == {catalog.reader_role, catalog.directory_role}
        assert sum("DROP ROLE" in statement for statement in remove_rls(there, catalog)) == 2
