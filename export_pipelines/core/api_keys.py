"""What an API key looks like, and what is kept of it.

``epk_`` + 43 characters of base64url (256 random bits) + 6 characters of checksum. The checksum tells a typo or a cut
from a wrong key without asking anybody, and lets scanners of leaked secrets be sure. It protects nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "epk_"
PATTERN = r"epk_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}"
HINT_LENGTH = 4
_RANDOM_BYTES = 32
_CHECKSUM_LENGTH = 6
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def new_key() -> str:
    """A key nobody has had."""
    body = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    return body + _checksum(body)


def is_whole(key: str) -> bool:
    """Whether the text has the form of a key and its checksum fits."""
    if re.fullmatch(PATTERN, key) is None:
        return False
    return _checksum(key[:-_CHECKSUM_LENGTH]) == key[-_CHECKSUM_LENGTH:]


def fingerprint(key: str) -> str:
    """What is kept of a key: SHA-256, hex. No salt and no slow hash: 256 random bits cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(text: str) -> str:
    """CRC-32 in base 62, most significant digit first."""
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
