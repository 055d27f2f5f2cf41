"""What every object store refuses as a key, so that all of them accept the same ones."""

from __future__ import annotations

from export_pipelines.core.errors import IntegrityViolation

UNFINISHED = ".writing-"  # first part of the name of a local file that is still being written
MAX_KEY_BYTES = 1024  # of S3
MAX_SEGMENT_BYTES = 255  # of the usual file systems


def checked_key(key: str) -> str:
    """The key, unless it could leave the store or would mean different things in different stores."""
    segments = key.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise IntegrityViolation(f"object key {key!r} has an empty, '.' or '..' segment")
    if any(char < " " or char in "\x7f\\" for char in key):
        raise IntegrityViolation(f"object key {key!r} has a control character or a backslash")
    if any(segment.startswith(UNFINISHED) for segment in segments):
        raise IntegrityViolation(f"object key {key!r} has a segment reserved for unfinished files")
    sizes = [len(segment.encode()) for segment in segments]
    if max(sizes) > MAX_SEGMENT_BYTES or sum(sizes) + len(sizes) - 1 > MAX_KEY_BYTES:
        raise IntegrityViolation(
            f"object key {key[:80]!r}… is too long: {MAX_SEGMENT_BYTES} bytes a segment, {MAX_KEY_BYTES} in all"
        )
    return key


def checked_prefix(prefix: str) -> str:
    """A key without its trailing slash; empty means everything."""
    prefix = prefix.rstrip("/")
    return checked_key(prefix) if prefix else ""
