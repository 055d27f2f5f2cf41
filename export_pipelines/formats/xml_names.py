"""Column and table names as names of XML elements, and back (ISO/IEC 9075-14, 9.1 and 9.3, full escaping).

What XML does not allow in a name becomes ``_xHHHH_``, beyond U+FFFF ``_xHHHHHH_``. Letters beyond Latin are escaped
too, because the editions of XML 1.0 disagree about them.
"""

from __future__ import annotations

import re

_LETTER = r"A-Za-z\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u0131"
_UNFIT = re.compile(rf"^(?=[xX][mM][lL]).|^[^{_LETTER}_]|_(?=x)|[^{_LETTER}0-9_.-]", re.DOTALL)
_ESCAPE = re.compile(r"_x([0-9A-F]{6}|[0-9A-F]{4})_")


def element_name(name: str) -> str:
    """``first name`` → ``first_x0020_name``; different names stay different."""
    return _UNFIT.sub(_escaped, name)


def original_name(element: str) -> str:
    """What `element_name` was given."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), element)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"_x{code:04X}_" if code <= 0xFFFF else f"_x{code:06X}_"  # noqa: PLR2004 - the end of the basic plane
