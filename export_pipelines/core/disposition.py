"""The Content-Disposition header of a download (RFC 6266, RFC 8187)."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

_ATTR_CHAR = "!#$&+-.^_`|~"  # RFC 8187; quote() adds letters and digits
_NEUTRAL = "download"
# With these `exe.jpg` is shown for `gpj.exe`.
_TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def attachment(filename: str) -> str:
    """``attachment`` with an ASCII name for old clients and the exact one beside it.

    Nothing of ``filename`` can end the header or the quoted string, name a folder, or turn the direction of writing.
    """
    kept = "".join(char for char in filename if unicodedata.category(char) not in ("Cc", "Cs") and char not in _TURNING)
    exact = kept.replace("/", "_").replace("\\", "_") or _NEUTRAL
    stem, dot, extension = exact.rpartition(".")
    plain = f"{_ascii(stem) or _NEUTRAL}.{_ascii(extension)}".rstrip(".") if dot else _ascii(exact) or _NEUTRAL
    if plain == exact:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(exact, safe=_ATTR_CHAR)}"


def _ascii(text: str) -> str:
    """What of it old clients can read; letters without their accents."""
    decomposed = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "".join("_" if char in '"\\/%;' else char for char in decomposed).strip(" .")
