"""Statuses of requests and deliveries and the transitions that are legal.

The database holds the same table as a trigger (``stores/schema``); a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class RequestStatus(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


REQUEST_TRANSITIONS: dict[RequestStatus, frozenset[RequestStatus]] = {
    RequestStatus.QUEUED: frozenset({RequestStatus.PROCESSING, RequestStatus.FAILED, RequestStatus.CANCELLED}),
    RequestStatus.PROCESSING: frozenset(
        {RequestStatus.QUEUED, RequestStatus.COMPLETED, RequestStatus.FAILED, RequestStatus.CANCELLED}
    ),
    RequestStatus.COMPLETED: frozenset({RequestStatus.EXPIRED}),
    RequestStatus.FAILED: frozenset({RequestStatus.QUEUED}),
    RequestStatus.CANCELLED: frozenset({RequestStatus.QUEUED}),
    RequestStatus.EXPIRED: frozenset(),
}

TERMINAL = frozenset({RequestStatus.COMPLETED, RequestStatus.FAILED, RequestStatus.CANCELLED, RequestStatus.EXPIRED})


def may_become(old: RequestStatus, new: RequestStatus) -> bool:
    return new in REQUEST_TRANSITIONS[old]


# What several requests are together: the first of these that any of them is. What goes on comes before what ended, and
# what ended badly before what ended well.
_TOGETHER = (
    RequestStatus.PROCESSING,
    RequestStatus.QUEUED,
    RequestStatus.FAILED,
    RequestStatus.CANCELLED,
    RequestStatus.EXPIRED,
    RequestStatus.COMPLETED,
)


def status_of_all(statuses: Iterable[RequestStatus]) -> RequestStatus:
    """The status of a batch. Some of it waits and some has ended: it is being worked on."""
    found = set(statuses)
    first = next((status for status in _TOGETHER if status in found), RequestStatus.QUEUED)
    return RequestStatus.PROCESSING if first is RequestStatus.QUEUED and found & TERMINAL else first
