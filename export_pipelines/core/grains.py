"""How long the periods are that the lake cuts a table by."""

from __future__ import annotations

from enum import StrEnum


class Grain(StrEnum):
    """Length of a partition's period."""

    MONTH = "month"
    DAY = "day"
    NONE = "none"
