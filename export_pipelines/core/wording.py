"""Figures as people read them, in mails and on pages."""

from __future__ import annotations

import math

_UNITS = ("kB", "MB", "GB", "TB")
_THOUSAND = 1000


def readable_size(octets: int) -> str:
    """``1 byte``, ``812 bytes``, ``1.4 MB``; powers of 1000, as download folders count."""
    if octets < _THOUSAND:
        return counted(octets, "byte")
    value, unit = octets / _THOUSAND, 0
    while round(value, 1) >= _THOUSAND and unit < len(_UNITS) - 1:
        value, unit = value / _THOUSAND, unit + 1
    return f"{value:,.1f} {_UNITS[unit]}"


def spelled(seconds: float) -> str:
    """``40 seconds``, ``15 minutes``, ``2 hours``, ``7 days``: rounded up, so that who waits that long is not early."""
    for noun, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or seconds == length:
            return counted(math.ceil(seconds / length), noun)
    return counted(math.ceil(seconds), "second")


def counted(number: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
