"""Counting calls against a user's limits."""

from __future__ import annotations

from export_pipelines.api.calls import Call, Work
from export_pipelines.core.errors import TooMany
from export_pipelines.core.rates import Rate, rate_fields
from export_pipelines.core.wording import spelled
from export_pipelines.stores.rate_limits import RateLimits, subject_of


def counted(call: Call, work: Work, name: str, rate: Rate) -> dict[str, str]:
    """Count a call against its user's limit of that name; the fields that tell it. `TooMany` when none is left.

    In the transaction of the call: one that is refused for another reason does not count.
    """
    taken = RateLimits(work.control).take(subject_of(call.caller, name), rate)
    fields = rate_fields(name, rate, taken)
    if not taken.allowed:
        raise TooMany(
            f"the limit is {rate.capacity} {name} in {spelled(rate.per_seconds)}; try again in "
            f"{spelled(taken.retry_after_seconds)}",
            retry_after_seconds=taken.retry_after_seconds,
            fields=fields,
        )
    return fields
