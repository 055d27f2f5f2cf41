"""Which of the known names somebody may have meant who wrote an unknown one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_SIMILAR = 0.75  # of difflib: one letter of four is wrong, or two are swapped
_LONGEST = 100  # characters of a name that is looked at
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def in_snake_case(name: str) -> str:
    """``dateRange``, ``DateRange`` and ``date-range`` as ``date_range``."""
    return _HUMP.sub("_", name[:_LONGEST]).replace("-", "_").replace(" ", "_").lower()


def closest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that differs least, if one is similar enough to have been meant."""
    known = {in_snake_case(choice): choice for choice in choices}
    found = difflib.get_close_matches(in_snake_case(name), known, n=1, cutoff=_SIMILAR)
    return known[found[0]] if found else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``; did you mean 'pets'?``, or nothing."""
    found = closest(name, choices)
    return f"; did you mean {found!r}?" if found else ""
