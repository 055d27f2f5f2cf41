"""What an API key looks like: as random as said, and a typo is seen without asking anybody."""

from __future__ import annotations

import hashlib
import re
import zlib

import pytest

from export_pipelines.core.api_keys import PATTERN, PREFIX, fingerprint, is_whole, new_key


def test_a_new_key_is_whole_and_like_no_other() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(is_whole(key) and re.fullmatch(PATTERN, key) and len(key) == 53 for key in keys)


def test_the_checksum_is_what_the_documents_say() -> None:
    """CRC-32 of prefix and random part in base 62: a scanner of leaked secrets computes the same."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    key = new_key()
    assert sum(digits.index(char) * 62**place for place, char in enumerate(reversed(key[-6:]))) == zlib.crc32(
        key[:-6].encode()
    )


@pytest.mark.parametrize("position", [4, 20, 46, 47, 52])
def test_one_wrong_character_is_seen(position: int) -> None:
    key = new_key()
    wrong = key[:position] + ("a" if key[position] != "a" else "b") + key[position + 1 :]
    assert not is_whole(wrong)


@pytest.mark.parametrize(
    "text",
    ["", PREFIX, "epk_" + "A" * 49, new_key()[:-1], new_key() + "a", new_key() + "\n"],
    ids=["nothing", "prefix", "checksum does not fit", "cut", "too long", "line"],
)
def test_what_is_no_key_is_not_whole(text: str) -> None:
    assert not is_whole(text)


def test_a_fingerprint_is_the_sha256_of_the_whole_key() -> None:
    key = new_key()
    assert fingerprint(key) == hashlib.sha256(key.encode()).hexdigest()
