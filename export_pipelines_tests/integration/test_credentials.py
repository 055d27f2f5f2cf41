"""The Authorization header: whom it names, what a wrong one is told, and how guessing is slowed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import jwt
import pytest
import structlog.testing

from export_pipelines.api.credentials import FAILURES, Credentials, bearer
from export_pipelines.api.tokens import Claims, SharedSecret, TokenVerifier
from export_pipelines.core.access import Role
from export_pipelines.core.api_keys import new_key
from export_pipelines.core.errors import NotAuthenticated, TooMany
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.control_database import emptied

SECRET = "a secret of the host, 32 bytes or more"
HERE = "192.0.2.7"


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("credentials")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as made:
        yield made


@pytest.fixture
def key(control: ControlDatabase) -> str:
    """Of the admin of a tenant."""
    return ApiKeyStore(control).create(role=Role.ADMIN, tenant_id="t", user_id="ann", created_by="test")[1]


@pytest.fixture
def credentials(migrated: str) -> Iterator[Credentials]:
    """As the API has them: as its own role."""
    pool = ControlPool(migrated)
    pool.open()
    yield Credentials(lambda: pool.tenant_session(None), TokenVerifier(SharedSecret(SECRET), Claims()))
    pool.close()


def token(secret: str = SECRET) -> str:
    claims = {"tenant_id": "t", "sub": "bob", "role": "member", "exp": time.time() + 300}
    return jwt.encode(claims, secret, algorithm="HS256")


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   ", " Bearer "])
def test_a_key_or_a_token_names_its_holder(credentials: Credentials, key: str, scheme: str) -> None:
    assert credentials.authenticate(f"{scheme}{key}", HERE).user_id == "ann"
    assert credentials.authenticate(f"{scheme}{token()}", HERE).user_id == "bob"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YW5uOmh1bnRlcjI=", "Bearer a b", "Bearer é"])
def test_a_header_of_another_form_is_an_invalid_request(header: str) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        bearer(header)
    assert refused.value.reason == "invalid_request"


def test_no_header_gets_no_error_code() -> None:
    with pytest.raises(NotAuthenticated) as refused:
        bearer(None)
    assert refused.value.reason is None  # RFC 6750, section 3.1


WRONG: dict[str, tuple[Callable[[], str], str]] = {
    "unknown key": (new_key, "the API key is unknown, expired or revoked"),
    "mistyped key": (lambda: new_key()[:-1] + "!", "the API key is unknown, expired or revoked"),
    "forged token": (lambda: token("another secret that has 32 bytes too"), "a signature that does not fit"),
    "gibberish": (lambda: "hunter2", "is not a token this service can read"),
}


@pytest.mark.parametrize(("make", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_credential_is_refused_and_logged_without_itself(
    credentials: Credentials, key: str, make: Callable[[], str], problem: str
) -> None:
    made = make()
    with structlog.testing.capture_logs() as logged, pytest.raises(NotAuthenticated, match=problem) as refused:
        credentials.authenticate(f"Bearer {made}", HERE)
    assert refused.value.reason == "invalid_token"
    assert [(line["event"], line["ip"]) for line in logged] == [("authentication_failed", HERE)]
    assert made not in f"{logged} {refused.value}"


def test_a_token_is_refused_where_only_keys_are_accepted(credentials: Credentials) -> None:
    credentials._tokens = None
    with pytest.raises(NotAuthenticated, match="give an API key, which begins with epk_"):
        credentials.authenticate(f"Bearer {token()}", HERE)


def test_who_guesses_has_to_wait_and_who_is_right_does_not(credentials: Credentials, key: str) -> None:
    for _ in range(FAILURES.capacity):
        with pytest.raises(NotAuthenticated):
            credentials.authenticate(f"Bearer {new_key()}", HERE)
    with pytest.raises(TooMany, match="too many failed logins") as refused:
        credentials.authenticate(f"Bearer {new_key()}", HERE)
    assert 0 < refused.value.retry_after_seconds <= FAILURES.per_seconds / FAILURES.capacity
    for right in (key, token()):
        assert credentials.authenticate(f"Bearer {right}", HERE).tenant_id
    assert credentials.authenticate(f"Bearer {key}", "192.0.2.8").user_id == "ann"


def test_right_credentials_are_never_counted(credentials: Credentials, key: str, control: ControlDatabase) -> None:
    for _ in range(FAILURES.capacity + 5):
        credentials.authenticate(f"Bearer {key}", HERE)
        credentials.authenticate(f"Bearer {token()}", HERE)
    assert control.rows("SELECT subject FROM export_control.rate_limits") == []
