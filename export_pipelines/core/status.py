"""Statuses of requests and deliveries and the transitions that are legal.

The database holds the same table as a trigger (``stores/migrations``); a test compares the two.
"""

from __future__ import annotations

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
