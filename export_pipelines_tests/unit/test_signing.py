"""Signatures of manifests and the files of keys that check them, the stranger's ones above all."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.signing import PublicKey, SignatureStatus, key_id_of
from export_pipelines.packaging.key_sets import key_set, read_key_set
from export_pipelines.packaging.manifest import to_json
from export_pipelines.packaging.signing import check_signature, signed

MADE_AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
MANIFEST: dict[str, Any] = {
    "manifest_version": 1,
    "export": {"id": "4711", "name": "Ünïcode 🐾", "tenant_id": "t"},
    "tables": [{"rows": 2**53 - 1, "aggregates": {"weight": {"low": 5.0, "high": 1e22}, "dose": {"low": 1e-7}}}],
    "files": [],
}


class Key:
    """A signer made for a test."""

    def __init__(self, seed: int) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = self.private.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public)

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)

    def published(self, **times: dt.datetime) -> PublicKey:
        return PublicKey(key_id=self.key_id, public_key=self.public, created_at=MADE_AT, **times)


OURS, THEIRS = Key(1), Key(2)
TRUSTED = {OURS.key_id: OURS.published()}


def manifest(**changes: Any) -> bytes:
    return to_json(signed(MANIFEST, OURS) | changes)


def status(content: bytes, keys: dict[str, PublicKey] | None = TRUSTED) -> SignatureStatus:
    return check_signature(content, keys).status


def test_a_signed_manifest_is_valid_however_it_is_laid_out() -> None:
    document = json.loads(manifest())
    assert status(manifest()) is SignatureStatus.VALID
    assert status(json.dumps(document, sort_keys=True).encode()) is SignatureStatus.VALID
    assert status(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()) is SignatureStatus.VALID


def test_the_same_manifest_gets_the_same_signature() -> None:
    assert manifest() == manifest()


def test_without_keys_a_signature_is_reported_and_not_judged() -> None:
    verdict = check_signature(manifest(export={"id": "another"}), None)
    assert (verdict.status, verdict.key_id, verdict.trusted) == (SignatureStatus.UNCHECKED, OURS.key_id, False)


@pytest.mark.parametrize("keys", [None, TRUSTED])
def test_a_manifest_without_a_signature_says_so(keys: dict[str, PublicKey] | None) -> None:
    assert status(to_json(MANIFEST), keys) is SignatureStatus.MISSING


def test_any_byte_of_a_value_that_is_changed_breaks_the_signature() -> None:
    content = to_json(signed({"name": "abc", "rows": 123}, OURS))
    for place in [content.index(b"abc") + 1, content.index(b"123") + 2, content.index(b"name") + 3]:
        changed = bytearray(content)
        changed[place] ^= 1
        assert status(bytes(changed)) is SignatureStatus.WRONG


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (signed(MANIFEST, THEIRS)["signature"], SignatureStatus.UNKNOWN_KEY),
        ({**signed(MANIFEST, THEIRS)["signature"], "key_id": OURS.key_id}, SignatureStatus.WRONG),
        (signed({**MANIFEST, "files": [1]}, OURS)["signature"], SignatureStatus.WRONG),
        ({**signed(MANIFEST, OURS)["signature"], "algorithm": "none"}, SignatureStatus.WRONG),
        ({**signed(MANIFEST, OURS)["signature"], "value": ""}, SignatureStatus.WRONG),
        ({**signed(MANIFEST, OURS)["signature"], "value": "=="}, SignatureStatus.WRONG),
        ({**signed(MANIFEST, OURS)["signature"], "value": 7}, SignatureStatus.WRONG),
        ({**signed(MANIFEST, OURS)["signature"], "value": signed(MANIFEST, OURS)["signature"]["value"] + "A"}, "wrong"),
        ({**signed(MANIFEST, OURS)["signature"], "more": 1}, SignatureStatus.WRONG),
        ({"algorithm": "Ed25519", "key_id": [], "value": ""}, SignatureStatus.WRONG),
        ("signed", SignatureStatus.WRONG),
        ([], SignatureStatus.WRONG),
        (None, SignatureStatus.MISSING),
    ],
)
def test_a_signature_that_is_none_of_ours_is_refused(signature: object, expected: str) -> None:
    assert status(manifest(signature=signature)) == expected


def test_a_revoked_keys_signature_is_refused_and_a_retired_keys_is_not() -> None:
    retired = {OURS.key_id: OURS.published(retired_at=MADE_AT)}
    revoked = {OURS.key_id: OURS.published(retired_at=MADE_AT, revoked_at=MADE_AT)}
    assert status(manifest(), retired) is SignatureStatus.VALID
    assert status(manifest(), revoked) is SignatureStatus.REVOKED_KEY


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda text: text.replace('"export"', '"export": {"id": "first"}, "export"', 1),  # readers see either
        lambda text: text.replace('"manifest_version": 1', '"manifest_version": NaN', 1),
        lambda text: text.replace('"manifest_version": 1', f'"manifest_version": {2**53 + 1}', 1),
        lambda text: text.replace('"manifest_version": 1', '"manifest_version": 1e999', 1),
        lambda text: text.replace('"files": []', '"files": ' + "[" * 100_000 + "]" * 100_000, 1),
        lambda text: text.replace("4711", "\\ud800", 1),
        lambda text: text[:-3],
        lambda _: "[]",
        lambda _: "",
    ],
)
def test_what_canonical_json_cannot_hold_is_never_valid(spoiled: Callable[[str], str]) -> None:
    assert status(spoiled(manifest().decode()).encode()) is SignatureStatus.WRONG


def test_an_integer_that_other_readers_would_round_is_not_signed() -> None:
    with pytest.raises(ValueError, match="exceeds"):
        signed({"rows": 2**53 + 1}, OURS)


def test_a_key_set_comes_back_as_it_was_written(tmp_path: Path) -> None:
    keys = [OURS.published(retired_at=MADE_AT), THEIRS.published(retired_at=MADE_AT, revoked_at=MADE_AT)]
    (tmp_path / "keys.json").write_text(json.dumps(key_set(keys)))
    assert read_key_set(tmp_path / "keys.json") == {key.key_id: key for key in keys}


def test_another_library_reads_the_key_set() -> None:
    """PyJWT knows RFC 7517 and RFC 8037."""
    found = jwt.PyJWKSet.from_dict(key_set([OURS.published()]))[OURS.key_id]
    found.key.verify(OURS.sign(b"message"), b"message")
    assert found.public_key_use == "sig"


def entry(**changes: Any) -> dict[str, Any]:
    return {**key_set([OURS.published()])["keys"][0], **changes}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b"\xff\xfe",
        json.dumps({"keys": [entry(), entry()]}).encode(),
        json.dumps({"keys": [entry(x=base64.b64encode(bytes(31)).decode())]}).encode(),
        json.dumps({"keys": [entry(x=key_set([THEIRS.published()])["keys"][0]["x"])]}).encode(),
        json.dumps({"keys": [entry(x="not base64")]}).encode(),
        json.dumps({"keys": [entry(kid="another")]}).encode(),
        json.dumps({"keys": [entry(kty="RSA")]}).encode(),
        json.dumps({"keys": [entry(crv="X25519")]}).encode(),
        json.dumps({"keys": [entry(revoked_at="yesterday")]}).encode(),
        json.dumps({"keys": [{"kid": "a"}]}).encode(),
        b" " * (1024 * 1024 + 1),
    ],
)
def test_a_malformed_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(content)
    with pytest.raises(RequestRejected, match=r"^--keys: "):
        read_key_set(tmp_path / "keys.json")


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestRejected, match="cannot be read: No such file"):
        read_key_set(tmp_path / "keys.json")
