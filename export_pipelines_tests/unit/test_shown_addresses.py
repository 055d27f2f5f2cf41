"""Addresses as `up` shows them."""

from __future__ import annotations

import pytest

from export_pipelines.commands.service import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("s3://key:sec@ret@bucket", "s3://bucket"),
        ("s3://bucket/a?X-Amz-Signature=secret", "s3://bucket/a"),
        ("s3://bucket?secret", "s3://bucket"),
        ("file:///data/objects", "file:///data/objects"),
        ("/data/at@home/objects", "/data/at@home/objects"),
    ],
)
def test_where_objects_are_is_shown_without_what_logs_in(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
