"""The Content-Disposition header of a download (RFC 6266)."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

_ATTR_CHAR = "!#$&+-.^_`|~"  # RFC 5987; quote() adds letters and digits


def attachment(filename: str) -> str:
    """``attachment`` with an ASCII name for old clients and the exact one beside it.

    Nothing of ``filename`` can end the header or the quoted string.
    """
    exact = "".join(char for char in filename if unicodedata.category(char) not in ("Cc", "Cs")) or "download"
    decomposed = unicodedata.normalize("NFKD", exact).encode("ascii", "ignore").decode()
    plain = "".join("_" if char in '"\\/%;' else char for char in decomposed).strip(" .") or "download"
    if plain == exact:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(exact, safe=_ATTR_CHAR)}"
