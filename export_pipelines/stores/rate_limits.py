"""Buckets of tokens in the control database, so that all processes count together.

A take belongs to the transaction it is made in: the subject's next try waits for its end, and a rollback gives the
token back.
"""

from __future__ import annotations

import datetime as dt
import json

from export_pipelines.core.access import Caller
from export_pipelines.core.addresses import client_network
from export_pipelines.core.rates import Rate, Taken
from export_pipelines.stores.control import Control


class RateLimits:
    """The table ``rate_limits`` through its functions."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def take(self, subject: str, rate: Rate) -> Taken:
        """Take a token, or learn when there will be one; a refused try takes nothing."""
        (row,) = self._control.rows(
            """
            SELECT allowed, remaining, retry_after_seconds, reset_seconds
            FROM export_control.take_token(%(subject)s, %(capacity)s, %(per)s)
            """,
            _values(subject, rate),
        )
        return Taken(**row)

    def look(self, subject: str, rate: Rate) -> Taken:
        """What `take` would find; takes nothing, writes nothing."""
        (row,) = self._control.rows(
            "SELECT export_control.tokens_left(%(subject)s, %(capacity)s, %(per)s) AS tokens", _values(subject, rate)
        )
        tokens, seconds_a_token = float(row["tokens"]), rate.per_seconds / rate.capacity
        return Taken(
            allowed=tokens >= 1,
            remaining=int(tokens),
            retry_after_seconds=max(0.0, (1 - tokens) * seconds_a_token),
            reset_seconds=(rate.capacity - tokens) * seconds_a_token,
        )


def subject_of(caller: Caller, what: str) -> str:
    """Whose bucket a caller's request is counted in: the user's, whatever credential it came with; else the key's.

    A caller's own is the only one that the database gives its session (``may_count`` in ``stores/schema``).
    """
    return json.dumps([what, caller.tenant_id, caller.name], ensure_ascii=True)


def subject_of_address(ip: str | None, what: str) -> str:
    """The bucket of a client's address; those of whom none is known share one."""
    return json.dumps([f"anonymous {what}", client_network(ip)])


def subject_of_link(link_id: str, what: str) -> str:
    """The bucket of a link, whoever tries it."""
    return json.dumps([f"anonymous {what}", link_id])


def subject_of_address_at_link(ip: str | None, link_id: str, what: str) -> str:
    """The bucket of what a client's address tries at one link."""
    return json.dumps([f"anonymous {what}", client_network(ip), link_id])


def _values(subject: str, rate: Rate) -> dict[str, object]:
    return {"subject": subject, "capacity": rate.capacity, "per": dt.timedelta(seconds=rate.per_seconds)}
