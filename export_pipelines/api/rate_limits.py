"""Counting calls against a user's limits."""

from __future__ import annotations

from export_pipelines.api.request_context import RequestContext, UnitOfWork
from export_pipelines.core.errors import TooMany
from export_pipelines.core.rates import Rate, Taken, rate_fields
from export_pipelines.core.wording import spelled
from export_pipelines.settings import Settings
from export_pipelines.stores.rate_limits import RateLimits, subject_of

ORDERS, LINKS, ESTIMATES = "exports", "links", "estimates"  # names of the limits that settings have


def enforce_rate_limit(context: RequestContext, work: UnitOfWork, name: str) -> dict[str, str]:
    """`count_against` against one of the limits above, where there is one."""
    rate = _rate(context.services.settings, name)
    return count_against(context, work, name, rate) if rate is not None else {}


def is_within_rate_limit(context: RequestContext, work: UnitOfWork, name: str) -> bool:
    """Whether `enforce_rate_limit` would be allowed now; counts nothing."""
    rate = _rate(context.services.settings, name)
    return rate is None or RateLimits(work.control).look(subject_of(context.caller, name), rate).allowed


def require_within_rate_limit(context: RequestContext, work: UnitOfWork, name: str) -> None:
    """`TooMany` when `enforce_rate_limit` would refuse it now; counts nothing. Asked before anything that costs."""
    rate = _rate(context.services.settings, name)
    if rate is not None:
        found = RateLimits(work.control).look(subject_of(context.caller, name), rate)
        if not found.allowed:
            raise _beyond(name, rate, found)


def _rate(settings: Settings, name: str) -> Rate | None:
    rates = {
        ORDERS: settings.rate_limit,
        LINKS: settings.link_rate_limit,
        ESTIMATES: settings.estimate_rate_limit,
    }
    return rates[name]


def count_against(context: RequestContext, work: UnitOfWork, name: str, rate: Rate) -> dict[str, str]:
    """Count a call against its user's limit of that name; the fields that tell it. `TooMany` when none is left.

    In the transaction of the call: one that is refused for another reason does not count.
    """
    taken = RateLimits(work.control).take(subject_of(context.caller, name), rate)
    if not taken.allowed:
        raise _beyond(name, rate, taken)
    return rate_fields(name, rate, taken)


def _beyond(name: str, rate: Rate, taken: Taken) -> TooMany:
    return TooMany(
        f"the limit is {rate.capacity} {name} in {spelled(rate.per_seconds)}; try again in "
        f"{spelled(taken.retry_after_seconds)}",
        retry_after_seconds=taken.retry_after_seconds,
        fields=rate_fields(name, rate, taken),
    )
