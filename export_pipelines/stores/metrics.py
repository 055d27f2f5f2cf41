"""The state of the queue, and the totals that metrics are made of.

The database decides what a caller may count: an operator and the service itself everything, an admin its own tenant,
anybody else nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from export_pipelines.stores.control import Control
from export_pipelines.stores.service_state import ServiceState, ServiceStateStore


@dataclass(frozen=True, kw_only=True)
class QueueNow:
    """What waits and runs at this moment."""

    queued: int  # due, waiting for a run
    waiting: int  # queued again, not yet due
    processing: int
    oldest_queued_seconds: float | None  # since the oldest of `queued` is due
    silent_seconds: float | None  # since the quietest run reported
    running: dict[str, int]  # tenant → exports; the 100 busiest
    deliveries: dict[str, int]  # pending and sending
    oldest_delivery_seconds: float | None  # since the oldest is due


@dataclass(frozen=True, kw_only=True)
class QueueRecent:
    """The exports that ended within a day."""

    completed_last_hour: int
    completed_last_day: int
    failed_last_day: int
    cancelled_last_day: int
    wait_median: float | None  # seconds, of all that had begun
    wait_p95: float | None
    run_median: float | None  # seconds, of the completed ones
    run_p95: float | None
    failures: dict[str, int]  # error type → failed exports


@dataclass(frozen=True, kw_only=True)
class QueueFigures:
    """Both."""

    now: QueueNow
    recent: QueueRecent


@dataclass(frozen=True, kw_only=True)
class ScheduleFigures:
    """Schedules of all tenants."""

    active: int
    paused: int
    late_ones: int  # whose last fire is no completed export after the time expected
    overdue_seconds: float | None  # since the oldest fire that was not dispatched yet


class FigureStore:
    """Reads figures; changes nothing."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def queue(self, tenant_id: str | None = None) -> QueueFigures | None:
        """Of one tenant or of all; None when the caller may not count them."""
        now = self.queue_now(tenant_id)
        if now is None:
            return None
        (recent,) = self._rows("queue_recent", tenant_id)
        return QueueFigures(now=now, recent=QueueRecent(**recent))

    def queue_now(self, tenant_id: str | None = None) -> QueueNow | None:
        """The part that costs the same however many exports there were."""
        rows = self._rows("queue_now", tenant_id)
        return QueueNow(**rows[0]) if rows else None

    def schedules(self, late_after: dt.timedelta) -> ScheduleFigures:
        """Of all tenants; nothing for who may not count them."""
        (row,) = self._control.rows(
            "SELECT * FROM export_control.schedule_figures(%(late_after)s)", {"late_after": late_after}
        )
        return ScheduleFigures(**row)

    def service_state(self) -> ServiceState | None:
        """Of the work behind the API; None before its first look."""
        return ServiceStateStore(self._control).read()

    def sees_all(self) -> bool:
        """Whether the caller may count what belongs to nobody in particular."""
        (row,) = self._control.rows("SELECT everything FROM export_control.countable(NULL)")
        return bool(row["everything"])

    def totals(self) -> Sequence[dict[str, Any]]:
        """Counters and histograms since the service began; they never fall."""
        return self._control.rows("SELECT * FROM export_control.metric_totals() ORDER BY 1, 2, 3, 4")

    def _rows(self, function: str, tenant_id: str | None) -> Sequence[dict[str, Any]]:
        return self._control.rows(
            f"SELECT * FROM export_control.{function}(%(tenant)s)",  # noqa: S608 - a name of this module
            {"tenant": tenant_id},
        )
