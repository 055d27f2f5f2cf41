"""API keys on a real server: whom they stand for, until when, and what the API's role can learn about them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from export_pipelines.core.access import Caller, Role
from export_pipelines.core.api_keys import fingerprint, new_key
from export_pipelines.core.errors import Conflict, NotFound, RequestRejected
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.control_database import emptied


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("keys")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as made:
        yield made


@pytest.fixture(scope="module")
def pool(migrated: str) -> Iterator[ControlPool]:
    made = ControlPool(migrated)
    made.open()
    yield made
    made.close()


@pytest.fixture
def keys(control: ControlDatabase) -> ApiKeyStore:
    return ApiKeyStore(control)


@pytest.mark.parametrize(
    ("role", "tenant", "user"),
    [
        (Role.MEMBER, "t", "ann"),
        (Role.ADMIN, "t", "ann"),
        (Role.ADMIN, "t", None),
        (Role.OPERATOR, None, None),
        (Role.OPERATOR, None, "oscar"),
    ],
)
def test_the_api_learns_whom_a_key_stands_for(
    pool: ControlPool, keys: ApiKeyStore, role: Role, tenant: str | None, user: str | None
) -> None:
    made, key = keys.create(role=role, tenant_id=tenant, user_id=user, created_by="test")
    with pool.tenant_session(None) as control:
        found = ApiKeyStore(control).authenticate(key)
    assert found == Caller(role=role, tenant_id=tenant, user_id=user, credential=f"key:{made.id}")


WRONG: list[tuple[Role, str | None, str | None, str]] = [
    (Role.OPERATOR, "t", None, "tenant: an operator belongs to no tenant"),
    (Role.ADMIN, None, "ann", "tenant: is needed with the role admin"),
    (Role.ADMIN, "", "ann", "tenant: is needed with the role admin"),
    (Role.MEMBER, "t", None, "user: is needed with the role member"),
    (Role.MEMBER, "t", "u" * 201, "user: has 201 characters; use at most 200"),
]


@pytest.mark.parametrize(("role", "tenant", "user", "problem"), WRONG, ids=[wrong[3] for wrong in WRONG])
def test_a_key_without_its_scope_is_not_made(
    keys: ApiKeyStore, role: Role, tenant: str | None, user: str | None, problem: str
) -> None:
    with pytest.raises(RequestRejected, match=problem):
        keys.create(role=role, tenant_id=tenant, user_id=user, created_by="test")
    assert keys.list() == []


@pytest.mark.parametrize(
    "scope",
    ["'operator', 't', NULL", "'admin', NULL, NULL", "'member', 't', NULL", "'root', 't', 'u'", "'admin', '', 'u'"],
)
def test_the_database_refuses_such_keys_by_itself(control: ControlDatabase, scope: str) -> None:
    with pytest.raises(RequestRejected, match="violates check constraint"):
        control.rows(
            "INSERT INTO export_control.api_keys (token_sha256, hint, created_by, role, tenant_id, user_id) "
            f"VALUES (repeat('0', 64), 'abcd', 'x', {scope})"
        )


def test_a_revoked_key_stands_for_nobody_from_then_on(keys: ApiKeyStore) -> None:
    made, key = keys.create(role=Role.ADMIN, tenant_id="t", created_by="test")
    other, still = keys.create(role=Role.ADMIN, tenant_id="t", created_by="test")
    assert keys.authenticate(key) is not None
    keys.revoke(made.id)
    assert keys.authenticate(key) is None
    assert keys.authenticate(still) is not None
    with pytest.raises(Conflict, match="is revoked already"):
        keys.revoke(made.id)
    assert {key.id: key.state(dt.datetime.now(dt.UTC)) for key in keys.list()} == {
        made.id: "revoked",
        other.id: "active",
    }


@pytest.mark.parametrize("key_id", ["00000000-0000-4000-8000-000000000000", "1", "x' OR true --"])
def test_an_unknown_key_cannot_be_revoked(keys: ApiKeyStore, key_id: str) -> None:
    with pytest.raises(NotFound, match="keys list"):
        keys.revoke(key_id)


def test_an_expired_key_stands_for_nobody(control: ControlDatabase, keys: ApiKeyStore) -> None:
    made, key = keys.create(role=Role.ADMIN, tenant_id="t", created_by="test", lifetime=dt.timedelta(days=1))
    assert keys.authenticate(key) is not None
    control.rows("UPDATE export_control.api_keys SET expires_at = now()")
    assert keys.authenticate(key) is None
    assert made.expires_at is not None
    assert keys.list()[0].state(dt.datetime.now(dt.UTC)) == "expired"


def test_the_key_is_nowhere_in_the_database(control: ControlDatabase, keys: ApiKeyStore) -> None:
    _, key = keys.create(role=Role.ADMIN, tenant_id="t", created_by="test")
    (row,) = control.rows("SELECT k::text AS all FROM export_control.api_keys AS k")
    assert fingerprint(key) in row["all"]
    assert key[4:20] not in row["all"]


@pytest.mark.parametrize(
    "text",
    ["", "epk_", new_key(), new_key()[:-1], "x' OR true --", "epk_" + "é" * 49],
    ids=["nothing", "prefix", "unknown", "cut", "SQL", "no ASCII"],
)
def test_other_texts_stand_for_nobody(keys: ApiKeyStore, text: str) -> None:
    keys.create(role=Role.OPERATOR, created_by="test")
    assert keys.authenticate(text) is None


def test_the_last_use_is_noted_at_most_once_a_minute(control: ControlDatabase, keys: ApiKeyStore) -> None:
    _, key = keys.create(role=Role.OPERATOR, created_by="test")
    assert keys.list()[0].last_used_at is None
    keys.authenticate(key)
    first = keys.list()[0].last_used_at
    assert first is not None
    keys.authenticate(key)
    assert keys.list()[0].last_used_at == first
    control.rows("UPDATE export_control.api_keys SET last_used_at = now() - interval '61 seconds'")
    keys.authenticate(key)
    assert keys.list()[0].last_used_at > first


def test_nobody_waits_for_anothers_note_of_the_last_use(pool: ControlPool, keys: ApiKeyStore) -> None:
    _, key = keys.create(role=Role.OPERATOR, created_by="test")
    with ThreadPoolExecutor(1) as other, pool.tenant_session(None) as slow:
        assert ApiKeyStore(slow).authenticate(key) is not None  # and this transaction stays open
        assert other.submit(keys.authenticate, key).result(timeout=10) is not None


@pytest.mark.parametrize("role", ["", *Role])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM export_control.api_keys",
        "SELECT token_sha256 FROM export_control.api_keys",
        "DELETE FROM export_control.api_keys",
        "UPDATE export_control.api_keys SET role = 'operator'",
        "INSERT INTO export_control.api_keys DEFAULT VALUES",
        "SELECT * FROM export_control.rate_limits",
        "DELETE FROM export_control.rate_limits",
    ],
)
def test_the_api_has_no_right_to_the_tables(migrated: str, role: str, statement: str) -> None:
    with psycopg.connect(migrated) as connection:
        connection.execute("SET LOCAL ROLE export_api")
        connection.execute("SELECT set_config('export_control.role', %s, true)", [role])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_other_roles_may_not_ask_about_keys_limits_or_write_entries(migrated: str) -> None:
    with psycopg.connect(migrated) as connection:
        open_to_all = connection.execute(
            """
            SELECT p.proname FROM pg_proc AS p, aclexplode(p.proacl) AS right_of
            WHERE p.pronamespace = 'export_control'::regnamespace AND p.prosecdef AND right_of.grantee = 0
            """
        ).fetchall()
        unfixed = connection.execute(
            """
            SELECT proname FROM pg_proc WHERE pronamespace = 'export_control'::regnamespace AND prosecdef
              AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)
            """
        ).fetchall()
        without_rights = connection.execute(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'export_control'::regnamespace AND prosecdef"
        ).fetchone()
    assert open_to_all == []
    assert unfixed == []
    assert without_rights is not None
    assert without_rights[0] >= 4
