"""The vocabulary in which a format says how it carries each kind of value.

Every format declares it for itself (`FormatSpec.carries`). The documentation and the notes in a package's manifest are
made from the declarations, and the tests prove each with values from a real database and a reader of strangers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Carried(StrEnum):
    """How a value sits in a file. Nothing is ever rounded or dropped; there is no word for it."""

    EXACT = "exact"  # as the format's own kind of value
    TEXT = "text"  # as text, which a reader has to turn into the value
    MIXED = "exact or text"  # exact where the format can, as text where it would round or refuse
    ESCAPED = "escaped"  # exact but for marks that a reader has to take away, in the few values that need them


@dataclass(frozen=True)
class Carriage:
    """What a format says of a column."""

    carried: Carried
    note: str = ""  # for people; empty when there is nothing to know
