"""How long the periods are that the lake cuts a table by."""

from __future__ import annotations

from enum import StrEnum


class Grain(StrEnum):
    """Length of a partition's period."""

    MONTH = "month"
    DAY = "day"
    NONE = "none"


# Which operators' schedule reads a table of that grain again every night; days are read when they are over.
NIGHTLY_SCHEDULES = {Grain.MONTH: "read_open_month", Grain.NONE: "read_whole_tables"}
