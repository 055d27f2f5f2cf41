"""Names of downloads, as the header carries them."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.disposition import attachment


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pets.csv", 'attachment; filename="pets.csv"'),
        ("März.csv", "attachment; filename=\"Marz.csv\"; filename*=UTF-8''M%C3%A4rz.csv"),
        ("файл.csv", "attachment; filename=\"download.csv\"; filename*=UTF-8''%D1%84%D0%B0%D0%B9%D0%BB.csv"),
        (
            'Hé"llo: / Ünï.zip',
            "attachment; filename=\"He_llo: _ Uni.zip\"; filename*=UTF-8''H%C3%A9%22llo%3A%20_%20%C3%9Cn%C3%AF.zip",
        ),
        ("pets.файл", "attachment; filename=\"pets\"; filename*=UTF-8''pets.%D1%84%D0%B0%D0%B9%D0%BB"),
        ("数据", "attachment; filename=\"download\"; filename*=UTF-8''%E6%95%B0%E6%8D%AE"),
        ("../../etc/passwd", "attachment; filename=\"_._etc_passwd\"; filename*=UTF-8''.._.._etc_passwd"),
        ("a\u202egpj.exe", 'attachment; filename="agpj.exe"'),
        ("\r\nSet-Cookie: x", 'attachment; filename="Set-Cookie: x"'),
        ("", 'attachment; filename="download"'),
    ],
)
def test_a_name_is_told_exactly_and_to_old_clients(name: str, expected: str) -> None:
    assert attachment(name) == expected


@given(st.text())
def test_no_name_ends_the_header_or_names_a_folder(name: str) -> None:
    made = attachment(name)
    exact = r"(?:; filename\*=UTF-8''([!#$&+.^_`|~\w%-]+))?"
    found = re.fullmatch(rf'attachment; filename="([ -~]+)"{exact}', made, re.ASCII)
    assert found is not None
    assert not set(found[1]) & set('"\\\\/%;')
    assert "/" not in unquote(found[2] or "")
