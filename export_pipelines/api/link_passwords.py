"""Passwords of links: argon2id, as RFC 9106 recommends for people's passwords.

Each hash takes 64 MiB and a core for some 100 ms, so they are made two at a time, whoever asks, few wait for that, and
never inside a transaction.
"""

from __future__ import annotations

import hashlib
import hmac

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from export_pipelines.api.concurrency import ConcurrencyLimit

MIN_PASSWORD, MAX_PASSWORD = 8, 200  # characters
HASHING = ConcurrencyLimit("passwords", at_once=2, waiting=6, per_subject=2, retry_seconds=1)  # around the two below
_hasher = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)  # RFC 9106's second choice, 64 MiB


def hash_password(password: str) -> str:
    return _hasher.hash(password)


def verify_password(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except VerificationError:
        return False


def proof_of(token: str, password_hash: str) -> str:
    """What a browser keeps in place of the password; only who has the hash can make it, and it fits one link."""
    return hmac.new(password_hash.encode(), token.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
