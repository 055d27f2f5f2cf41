"""The signing keys in a real control database: one in use, the others kept, the secret halves out of reach."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import FastAPI

from export_pipelines.api.signing_keys import PATH, router
from export_pipelines.core.errors import RequestRejected
from export_pipelines.packaging.key_sets import read_key_set
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.secrets import SecretBox, open_secret_box
from export_pipelines.stores.signing_keys import SigningKeyStore
from export_pipelines.stores.tenant_session import ControlPool

SECRET = bytes(range(32))
SECOND_IN_USE = """
INSERT INTO export_control.signing_keys (key_id, public_key, sealed_private)
VALUES (left(encode(sha256(sha256('a')), 'hex'), 16), sha256('a'), 'a')
"""


def store(control: ControlDatabase, secret: bytes = SECRET) -> SigningKeyStore:
    return SigningKeyStore(control, SecretBox(lambda: secret))


@pytest.fixture
def control(control_url: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(control_url)) as opened:
        yield opened


@pytest.fixture
def keys(control: ControlDatabase) -> SigningKeyStore:
    return store(control)


def test_the_first_to_sign_makes_the_key_and_later_ones_use_it(keys: SigningKeyStore, control: ControlDatabase) -> None:
    assert keys.published() == []
    signer = keys.signer()
    [published] = keys.published()
    Ed25519PublicKey.from_public_bytes(published.public_key).verify(signer.sign(b"message"), b"message")
    assert signer.key_id == published.key_id == store(control).signer().key_id
    assert store(control).signer().sign(b"message") == signer.sign(b"message")


def test_processes_that_sign_first_at_once_get_the_same_key(control_url: str) -> None:
    def sign(_: int) -> str:
        with closing(ControlDatabase(control_url)) as control:
            return store(control).signer().key_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(sign, range(8)))) == 1


def test_rotation_retires_the_key_in_use_and_keeps_it_published(keys: SigningKeyStore) -> None:
    first = keys.signer().key_id
    assert keys.rotate()[0] == first
    second = keys.signer().key_id
    old, new = keys.published()
    assert (old.key_id, new.key_id) == (first, second)
    assert old.retired_at is not None
    assert (old.revoked_at, new.retired_at) == (None, None)


def test_rotations_at_once_leave_one_key_in_use(keys: SigningKeyStore, control_url: str) -> None:
    keys.signer()

    def rotate(_: int) -> str:
        with closing(ControlDatabase(control_url)) as control:
            return store(control).rotate()[1]

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(rotate, range(4)))
    found = keys.published()
    assert {key.key_id for key in found} >= set(made)
    assert [key.key_id for key in found if key.retired_at is None] == [keys.signer().key_id]


def test_a_revoked_key_signs_nothing_any_more_and_cannot_come_back(keys: SigningKeyStore) -> None:
    first = keys.signer().key_id
    keys.revoke(first)
    assert keys.signer().key_id != first
    revoked = next(key for key in keys.published() if key.key_id == first)
    assert revoked.revoked_at is not None
    with pytest.raises(RequestRejected, match="was revoked on"):
        keys.revoke(first)


def test_a_retired_key_can_still_be_revoked(keys: SigningKeyStore) -> None:
    first = keys.signer().key_id
    keys.rotate()
    keys.revoke(first)
    assert keys.published()[0].revoked_at is not None


def test_an_unknown_key_cannot_be_revoked(keys: SigningKeyStore) -> None:
    with pytest.raises(RequestRejected, match="is not the id of a signing key"):
        keys.revoke("0123456789abcdef")


def test_the_secret_half_is_sealed_and_wiped_with_the_end_of_its_use(
    keys: SigningKeyStore, control: ControlDatabase
) -> None:
    signer = keys.signer()
    secret = signer._private.private_bytes_raw()
    [row] = control.rows("SELECT * FROM export_control.signing_keys")
    assert secret not in bytes(row["sealed_private"])
    keys.rotate()
    rows = control.rows("SELECT sealed_private FROM export_control.signing_keys WHERE retired_at IS NOT NULL")
    assert rows == [{"sealed_private": None}]


def test_a_service_with_another_secret_cannot_sign_and_is_told_the_way_out(
    keys: SigningKeyStore, control: ControlDatabase
) -> None:
    keys.signer()
    stranger = store(control, bytes(32))
    with pytest.raises(RequestRejected, match=r"EXPORT_SECRET_KEY: .*signing rotate"):
        stranger.signer()
    stranger.rotate()
    assert stranger.signer().key_id == stranger.published()[-1].key_id


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM export_control.signing_keys",
        "UPDATE export_control.signing_keys SET public_key = sha256('x')",
        "UPDATE export_control.signing_keys SET created_at = now() - interval '1 day'",
        "UPDATE export_control.signing_keys SET revoked_at = NULL",
        "UPDATE export_control.signing_keys SET sealed_private = 'x' WHERE revoked_at IS NOT NULL",
        "INSERT INTO export_control.signing_keys (key_id, public_key, sealed_private) VALUES ('a', sha256('a'), 'a')",
        SECOND_IN_USE,
    ],
)
def test_the_database_keeps_what_was_published_and_one_key_in_use(
    keys: SigningKeyStore, control: ControlDatabase, change: str
) -> None:
    keys.revoke(keys.signer().key_id)
    keys.signer()
    before = keys.published()
    with pytest.raises(RequestRejected):
        control.rows(change)
    assert keys.published() == before


def test_the_api_publishes_the_keys_with_no_way_to_the_secret_halves(keys: SigningKeyStore, control_url: str) -> None:
    keys.signer()
    keys.rotate()
    keys.revoke(keys.published()[0].key_id)
    with closing(ControlPool(control_url)) as pool:
        pool.open()
        with pool.tenant_session(None) as acting:
            assert SigningKeyStore(acting).published() == keys.published()
        for statement in ("SELECT sealed_private", "DELETE", "SELECT *"):
            with pytest.raises(RequestRejected, match="permission denied"), pool.tenant_session(None) as acting:
                acting.rows(f"{statement} FROM export_control.signing_keys")
        with pytest.raises(RequestRejected, match="permission denied"), pool.tenant_session(None) as acting:
            SigningKeyStore(acting).signer()


def test_the_well_known_address_answers_anybody(keys: SigningKeyStore, control_url: str, tmp_path: Path) -> None:
    keys.signer()
    keys.rotate()
    app = FastAPI()
    app.include_router(router)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            return await client.get(PATH)

    with closing(ControlPool(control_url)) as pool:
        pool.open()
        app.state.services = SimpleNamespace(pool=pool)
        answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=300")
    (tmp_path / "keys.json").write_bytes(answer.content)
    assert list(read_key_set(tmp_path / "keys.json").values()) == keys.published()


def test_a_file_secret_is_shared_by_the_processes_of_a_home(control_url: str, tmp_path: Path) -> None:
    def sign(_: int) -> str:
        with closing(ControlDatabase(control_url)) as control:
            return SigningKeyStore(control, open_secret_box(None, tmp_path)).signer().key_id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(sign, range(4)))) == 1
