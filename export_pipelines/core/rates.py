"""Rates such as five in fifteen minutes, and how an answer tells them.

A rate is a bucket of tokens: full at first, one taken by each request, refilled evenly over the interval. So the whole
capacity may be used at once, and over a long time no more than the rate gets through.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"([0-9]{1,7})/([0-9]{0,6})([smhd])")
_LONGEST_SECONDS = 7 * 86_400  # after that, idle buckets are dropped
_OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """``capacity`` requests in ``per_seconds``."""

    capacity: int
    per_seconds: int

    def __str__(self) -> str:
        unit = next(unit for unit in ("d", "h", "m", "s") if self.per_seconds % _UNITS[unit] == 0)
        count = self.per_seconds // _UNITS[unit]
        return f"{self.capacity}/{count if count > 1 else ''}{unit}"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of one try at a bucket."""

    allowed: bool
    remaining: int  # whole tokens left
    retry_after_seconds: float  # until there is a token; 0 when there is one
    reset_seconds: float  # until the bucket is full


def parse_rate(text: str) -> Rate | None:
    """``5/15m``, ``100/h``; None for ``off``. `ValueError` says what is wrong."""
    if text.strip().lower() == _OFF:
        return None
    found = _FORM.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError("must be a number of requests and an interval such as 5/15m, 10/s or 100/h, or off")
    capacity, per_seconds = int(found[1]), int(found[2] or 1) * _UNITS[found[3]]
    if capacity < 1 or not 1 <= per_seconds <= _LONGEST_SECONDS:
        raise ValueError("must allow at least 1 request, in an interval of 1 second to 7 days; off sets no limit")
    return Rate(capacity=capacity, per_seconds=per_seconds)


def rate_fields(policy: str, rate: Rate, taken: Taken) -> dict[str, str]:
    """The header fields of an answer: ``RateLimit-Policy`` and ``RateLimit`` (draft-ietf-httpapi-ratelimit-headers-10,
    structured fields), and ``Retry-After`` (RFC 9110) where the try was refused.
    """
    fields = {
        "RateLimit-Policy": f'"{policy}";q={rate.capacity};w={rate.per_seconds}',
        "RateLimit": f'"{policy}";r={taken.remaining};t={math.ceil(taken.reset_seconds)}',
    }
    if not taken.allowed:
        fields["Retry-After"] = str(max(1, math.ceil(taken.retry_after_seconds)))
    return fields
