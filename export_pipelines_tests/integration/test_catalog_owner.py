"""The README's steps as the owner of the tables, who may create roles and is no superuser."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from export_pipelines.catalog.check import check
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls, login_sql
from export_pipelines.catalog.rls_removal import remove_rls
from export_pipelines.core.catalog import Catalog
from export_pipelines_tests.host import Server, create_database

TABLES = """
CREATE TABLE tenant (id int PRIMARY KEY, name text);
CREATE TABLE item (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
INSERT INTO tenant VALUES (1, 'A'), (2, 'B'); INSERT INTO item VALUES (1, 1), (2, 2), (3, 2);
"""
PASSWORD = "a password of the owner's"
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A database whose tables are the owner's, and the owner's connection."""

    connection: psycopg.Connection[Any]
    admin_url: str
    owner: str
    catalog: Catalog


@pytest.fixture(params=["postgres", "debian_postgres"])
def owned(request: pytest.FixtureRequest) -> Iterator[Owned]:
    server: Server = request.getfixturevalue(request.param)
    admin_url, owner = create_database(server, "owned"), f"owner_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        role = sql.Identifier(owner)
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(role, sql.Literal(PASSWORD)))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(admin.info.dbname), role))
        admin.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(role))
    with psycopg.connect(admin_url, user=owner, password=PASSWORD, autocommit=True) as connection:
        connection.execute(TABLES)
        found = reflect(connection, name="owned").catalog
        catalog = found.model_copy(update={"reader_role": f"{owner}_reader"})
        yield Owned(connection=connection, admin_url=admin_url, owner=owner, catalog=catalog)


@contextmanager
def allowed(owned: Owned, step: str) -> Iterator[psycopg.Connection[Any]]:
    """Whoever may become the reader after this step, which the owner takes."""
    if owned.connection.info.server_version >= 160000:
        owned.connection.execute(step.encode())
        yield owned.connection
        return
    statement, url = step.split(", give it a password and connect as it with ")
    login = f"{owned.owner}_admin"
    statement = statement.replace("export_admin", login).replace(" IN ROLE", f" PASSWORD '{login}' IN ROLE")
    owned.connection.execute(statement.encode())
    try:
        with psycopg.connect(owned.admin_url + url, user=login, password=login, autocommit=True) as connection:
            yield connection
    finally:
        owned.connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))


def test_an_owner_with_createrole_sets_up_checks_and_removes_everything(owned: Owned) -> None:
    connection, catalog = owned.connection, owned.catalog
    roles = "SELECT rolname FROM pg_roles ORDER BY 1"
    before = connection.execute(roles).fetchall()
    apply_rls(connection, catalog)
    (refused,) = check(connection, catalog)
    assert refused.message == f"{owned.owner!r} may not act as reader role {catalog.reader_role!r}"
    with allowed(owned, refused.next_step) as administrator:
        assert [str(finding) for finding in check(administrator, catalog)] == []
        apply_rls(administrator, catalog)  # again, as after a change of the catalog
        assert administrator.execute("SELECT count(*) FROM item").fetchone() == (3,)

    login = f"{owned.owner}_login"
    connection.execute(f"{login_sql(catalog, login)[0]} PASSWORD '{login}'".encode())
    with psycopg.connect(owned.admin_url, user=login, password=login) as service:
        service.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(catalog.reader_role)))
        service.execute("SELECT set_config('export.tenant_id', '2', true)")
        assert service.execute("SELECT id FROM item ORDER BY id").fetchall() == [(2,), (3,)]

    remove_rls(connection, catalog)
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
    assert connection.execute(roles).fetchall() == before
    assert connection.execute("SELECT count(*) FROM pg_policy").fetchone() == (0,)
