"""Entries of the audit log: what one says, how it is hashed, and what it must never hold.

The database appends and hashes (``stores/schema``); this is the same encoding written down a second time, for those
who verify. It changes nothing that is already in a log, so it must never change.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

GENESIS = bytes(32)  # what the first entry follows
HASHED_FIELDS = (
    "id", "at", "tenant_id", "user_id", "role", "credential", "action", "target_type", "target_id", "outcome",
    "ip", "user_agent", "http_request_id", "detail",
)  # fmt: skip
DETAIL_BYTES = 4096
_SECRET_NAME = re.compile(r"password|passphrase|secret|token|authorization|cookie|private_key|api_key", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"epk_[A-Za-z0-9_-]+|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_REMOVED = "[removed]"
_MOST_DEPTH = 8


class Outcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"  # the caller may not, or asked for what cannot be
    FAILED = "failed"  # our side


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a request came from, as far as the server saw."""

    ip: str | None = None
    user_agent: str | None = None
    http_request_id: str | None = None


def entry_hash(previous_hash: bytes, fields: Mapping[str, str | None]) -> bytes:
    """SHA-256 over the hash before and each field of `HASHED_FIELDS` as text, its length in front of it."""
    encoded = b"".join(_encoded(fields[name]) for name in HASHED_FIELDS)
    return hashlib.sha256(previous_hash + encoded).digest()


def _encoded(value: str | None) -> bytes:
    if value is None:
        return b"-,"
    octets = value.encode()
    return b"%d:%s," % (len(octets), octets)


def detail_text(detail: Mapping[str, Any] | None) -> str:
    """One JSON object, bounded, keys sorted; what is named or looks like a secret is removed."""
    text = json.dumps(_plain(detail or {}, 0), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    size = len(text.encode())
    return text if size <= DETAIL_BYTES else json.dumps({"omitted_bytes": size}, separators=(",", ":"))


def clean_text(value: str | None) -> str | None:
    """The text as a database takes it: no NUL, no half of a surrogate pair. Lengths are the database's rule."""
    return value if value is None else value.replace("\0", "�").encode("utf-8", "replace").decode()


def _plain(value: Any, depth: int) -> Any:
    if depth > _MOST_DEPTH:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {
            str(clean_text(str(name))): _REMOVED if _SECRET_NAME.search(str(name)) else _plain(part, depth + 1)
            for name, part in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part, depth + 1) for part in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _SECRET_TEXT.sub(_REMOVED, str(clean_text(str(value))))
