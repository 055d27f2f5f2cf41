"""Entries of the audit log: an encoding that two readings cannot share, and details without secrets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.api_keys import new_key
from export_pipelines.core.audit import DETAIL_BYTES, GENESIS, HASHED_FIELDS, clean_text, detail_text, entry_hash

EXAMPLE = {
    "id": "1", "at": "2026-03-01T08:00:00.000000Z", "tenant_id": "clinic-1", "user_id": "zoë", "role": "admin",
    "credential": "key:7", "action": "export.create", "target_type": "export", "target_id": "e-1", "outcome": "ok",
    "ip": "192.0.2.7", "user_agent": None, "http_request_id": "", "detail": '{"format":"csv"}',
}  # fmt: skip
WRITTEN_OUT = (
    b"1:1,27:2026-03-01T08:00:00.000000Z,8:clinic-1,4:zo\xc3\xab,5:admin,5:key:7,13:export.create,6:export,3:e-1,"
    b'2:ok,9:192.0.2.7,-,0:,16:{"format":"csv"},'
)


def test_the_example_of_the_documents_has_this_hash() -> None:
    page = (Path(__file__).parents[2] / "docs/access.md").read_text("utf-8")
    assert entry_hash(GENESIS, EXAMPLE) == hashlib.sha256(GENESIS + WRITTEN_OUT).digest()
    assert f"\n{WRITTEN_OUT.decode()}\n{entry_hash(GENESIS, EXAMPLE).hex()}\n" in page


@pytest.mark.parametrize("name", HASHED_FIELDS)
def test_every_field_is_part_of_the_hash(name: str) -> None:
    assert entry_hash(GENESIS, {**EXAMPLE, name: "x"}) != entry_hash(GENESIS, EXAMPLE)


def test_the_entry_before_is_part_of_the_hash() -> None:
    assert entry_hash(bytes([1] * 32), EXAMPLE) != entry_hash(GENESIS, EXAMPLE)


texts = st.one_of(st.none(), st.text(alphabet=",:-0123456789a", max_size=8))


@given(st.tuples(texts, texts, texts), st.tuples(texts, texts, texts))
def test_different_fields_never_read_the_same(one: tuple[str | None, ...], other: tuple[str | None, ...]) -> None:
    names = ("tenant_id", "user_id", "role")
    first, second = (
        entry_hash(GENESIS, {**EXAMPLE, **dict(zip(names, values, strict=True))}) for values in (one, other)
    )
    assert (first == second) == (one == other)


SECRETS = {
    "password": {"password": "hunter2-hunter2"},
    "nested": {"encryption": {"passphrase": "hunter2-hunter2"}},
    "in a list": {"deliveries": [{"client_secret": "hunter2-hunter2"}]},
    "header": {"Authorization": "Bearer hunter2-hunter2"},
    "a key in a text": {"note": f"hunter2-hunter2 is {new_key()}".replace("hunter2-hunter2 is ", "")},
    "a token in a text": {"note": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJoIn0.hunter2-hunter2"},
}


@pytest.mark.parametrize("detail", SECRETS.values(), ids=SECRETS)
def test_a_detail_holds_no_secret(detail: dict[str, object]) -> None:
    text = detail_text(detail)
    assert "hunter2" not in text
    assert "epk_" not in text
    assert "[removed]" in text


def test_a_detail_is_bounded_and_says_so() -> None:
    assert len(detail_text({"tables": ["t" * 100] * 39}).encode()) <= DETAIL_BYTES
    assert json.loads(detail_text({"tables": ["ü" * 100] * 100})) == {"omitted_bytes": 20_312}


deep: dict[str, object] = {}
for _ in range(2000):
    deep = {"in": deep}


@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"rows": 3, "share": 0.5, "none": None, "yes": True},
        {"odd": float("nan")},
        {"half": "\ud800", "nul": "\0"},
        deep,
    ],
    ids=["empty", "plain", "no number", "no text", "deep"],
)
def test_any_detail_becomes_a_json_object(detail: dict[str, object]) -> None:
    text = detail_text(detail)
    assert isinstance(json.loads(text), dict)
    assert text.encode().decode() == text


def test_a_text_is_made_storable_and_none_stays_none() -> None:
    assert clean_text("a\0b\ud800c") == "a�b?c"
    assert clean_text(None) is None
