"""The key of the service and what it seals."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.settings import Settings
from export_pipelines.stores.passwords import SEALED, is_sealed, sealed_config
from export_pipelines.stores.secrets import KEY_FILE, SecretBox, key_of, open_secret_box

KEY = base64.b64encode(bytes(range(32))).decode()


def test_what_is_sealed_opens_for_its_owner_only(tmp_path: Path) -> None:
    box = open_secret_box(KEY, tmp_path)
    sealed = box.seal("correct horse", "request 1")
    assert b"correct" not in sealed
    assert sealed != box.seal("correct horse", "request 1")
    assert open_secret_box(KEY, tmp_path).open(sealed, "request 1") == "correct horse"
    assert list(tmp_path.iterdir()) == []
    for other, owner in ((box, "request 2"), (SecretBox(lambda: bytes(32)), "request 1")):
        with pytest.raises(RequestRejected, match="EXPORT_SECRET_KEY"):
            other.open(sealed, owner)


def test_a_key_file_is_made_once_for_all_who_need_it_and_for_nobody_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: key_of(home / KEY_FILE), range(32)))
    assert len(keys) == 1
    assert [path.name for path in home.iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("key", ["", "short", base64.b64encode(bytes(31)).decode(), "ä" * 44])
def test_a_key_of_another_length_is_refused_with_the_command_that_makes_one(key: str, tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text(key, encoding="utf-8")
    with pytest.raises((RequestRejected, Unavailable, UnicodeDecodeError)):
        key_of(tmp_path / KEY_FILE)
    if key.isascii() and key:
        with pytest.raises(RequestRejected, match="openssl rand -base64 32"):
            open_secret_box(key, tmp_path).seal("x", "y")


@pytest.mark.parametrize(
    ("encryption", "kept", "password"),
    [
        ({"method": "AES256", "password": "p"}, {"method": "AES256", "password": SEALED}, "p"),
        ({"method": "AES256", "password": SecretStr("p")}, {"method": "AES256", "password": SEALED}, "p"),
        ({"enabled": False, "password": "p"}, {"enabled": False}, None),
        ({"method": "age", "recipients": ["x"]}, {"method": "age", "recipients": ["x"]}, None),
        (None, None, None),
    ],
)
def test_a_configuration_is_kept_without_its_password(encryption: Any, kept: Any, password: str | None) -> None:
    config, found = sealed_config({"format": "csv", "encryption": encryption})
    assert config == {"format": "csv", "encryption": kept}
    assert (found.get_secret_value() if found else None) == password
    assert is_sealed(config) is (password is not None)


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("1.5 GB", 1_500_000_000), ("512MiB", 512 << 20), ("20000", 20_000), ("64 kB", 64_000)],
)
def test_a_size_is_said_in_bytes_or_in_words(text: str, size: int) -> None:
    assert Settings(EXPORT_MAX_FILE_SIZE=text).max_file_size == size


@pytest.mark.parametrize("text", ["-5", "0", "9999", "1 parsec", "MB", "1e9"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="EXPORT_MAX_FILE_SIZE"):
        Settings(EXPORT_MAX_FILE_SIZE=text)
