"""Fires into requests: the one place where schedules that are due become rows of the request table.

A batch takes its schedules, inserts their requests and moves their next fire on in one transaction, so that whatever
stops it, wherever, loses and doubles nothing. The pair of schedule and fire is unique besides.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import psycopg
import structlog
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import is_covered, stored_window, window_at, windowed
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.recurrence import CatchUp, Due, due_fires, jittered
from export_pipelines.core.scheduling import named
from export_pipelines.stores.control import Control
from export_pipelines.stores.secrets import SecretBox

SCHEDULES_AT_ONCE = 200
BATCHES = 100  # of one call, which must not keep other work of its process waiting for long
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """What one call did."""

    requests: int = 0
    skipped: int = 0  # missed fires that their policy drops, or whose rows have been read
    paused: int = 0  # schedules that cannot fire as they are
    more: bool = False  # something is still due

    def __add__(self, other: Dispatched) -> Dispatched:
        return Dispatched(
            requests=self.requests + other.requests,
            skipped=self.skipped + other.skipped,
            paused=self.paused + other.paused,
            more=other.more,
        )


@dataclass(frozen=True, kw_only=True)
class _Order:
    """One request to insert."""

    id: str
    schedule: DictRow
    fire: dt.datetime
    config: dict[str, Any]
    window_end: dt.datetime | None = None
    sealed: bytes | None = None
    problem: str | None = None  # why it fails at once


class Dispatcher:
    """Works off what is due. Several may work at a time; each takes what no other holds."""

    def __init__(self, control: Control, secrets: SecretBox) -> None:
        self._control = control
        self._secrets = secrets

    def dispatch(self, now: dt.datetime, *, batches: int = BATCHES) -> Dispatched:
        """Make requests of all fires up to ``now``."""
        done = Dispatched()
        for _ in range(batches):
            batch = self._safely(now)
            if batch is None:
                return done
            done += batch
        return done + Dispatched(more=True)

    def _safely(self, now: dt.datetime) -> Dispatched | None:
        """A schedule whose request the table refuses must not keep the others of its batch from firing."""
        try:
            return self._batch(now, SCHEDULES_AT_ONCE, [])
        except RequestRejected:
            held: list[object] = []
        try:
            return self._batch(now, 1, held)
        except RequestRejected as error:
            if not held:  # it is not about a schedule
                raise
            return self._pause(held, error)

    def _batch(self, now: dt.datetime, limit: int, held: list[object]) -> Dispatched | None:
        """None when nothing is due. ``held`` is told the schedules it works on."""
        with self._control.transaction() as connection:
            rows = connection.execute(_DUE, {"now": now, "limit": limit}).fetchall()
            if not rows:
                return None
            held.extend(row["id"] for row in rows)
            found = [(row, _due(row, now)) for row in rows]
            owing = [(row, due) for row, due in found if isinstance(due, Due)]
            broken = {row["id"]: due for row, due in found if isinstance(due, str)}
            orders = [self._order(row, fire) for row, due in owing for fire in due.fires]
            if orders:
                connection.execute(_INSERT, _columns_of(orders))
            connection.execute(_ADVANCE, _moves_of(owing, orders))
            failed = [order for order in orders if order.problem is not None]
            if failed:
                failures = {"ids": [order.id for order in failed], "problems": [order.problem for order in failed]}
                connection.execute(_FAIL, failures)
            paused = _paused(connection, broken)
            done = Dispatched(requests=len(orders), skipped=sum(due.skipped for _, due in owing), paused=len(paused))
            connection.execute(_COUNT, {"requests": done.requests, "skipped": done.skipped})
        _warn_of(paused)
        return done

    def _order(self, schedule: DictRow, fire: dt.datetime) -> _Order:
        """The request of a fire; one that fails at once and says why where its window or password is of no use."""
        order_id, sealed = str(uuid4()), schedule["sealed_password"]
        try:
            wanted = stored_window(schedule["data_window"])
            window = window_at(wanted, fire, timezone=schedule["timezone"], covered_until=schedule["covered_until"])
            return _Order(
                id=order_id,
                schedule=schedule,
                fire=fire,
                config=named(windowed(schedule["config"], window, wanted.whole_tables), schedule["name"]),
                window_end=window.end_at,
                sealed=self._resealed(bytes(sealed), schedule["id"], order_id) if sealed else None,
            )
        except RequestRejected as error:
            return _Order(
                id=order_id, schedule=schedule, fire=fire, config=schedule["config"], sealed=sealed, problem=str(error)
            )

    def _resealed(self, sealed: bytes, schedule_id: object, request_id: str) -> bytes:
        """A secret is bound to its owner, so each request gets one of its own."""
        return self._secrets.seal(self._secrets.open(sealed, str(schedule_id)), request_id)

    def _pause(self, schedules: list[object], error: RequestRejected) -> Dispatched:
        with self._control.transaction() as connection:
            paused = _paused(connection, dict.fromkeys(schedules, f"its export is refused: {error}"))
        _warn_of(paused)
        return Dispatched(paused=len(paused))


def _paused(connection: psycopg.Connection[DictRow], reasons: dict[object, str]) -> list[DictRow]:
    """Those that were active until now, with their reasons."""
    if not reasons:
        return []
    rows = connection.execute(_PAUSE, {"id": list(reasons), "reason": list(reasons.values())}).fetchall()
    return [row for row in rows if row["paused"]]


def _warn_of(paused: list[DictRow]) -> None:
    for row in paused:
        _log.warning("schedule_paused", schedule=str(row["id"]), reason=row["reason"])


def _due(row: DictRow, now: dt.datetime) -> Due | str:
    """What it owes, or why that cannot be told."""
    try:
        cron = Cron(expression=row["cron"], timezone=row["timezone"])
        due = due_fires(cron, row["next_fire_at"], now, CatchUp(row["catch_up"]))
        window = stored_window(row["data_window"])
    except RequestRejected as error:
        return str(error)
    if due.next_fire_at is None:
        return "it names no date that is still to come"
    owed = tuple(fire for fire in due.fires if not is_covered(window, fire, row["covered_until"]))
    return replace(due, fires=owed, skipped=due.skipped + len(due.fires) - len(owed))


def _columns_of(orders: Sequence[_Order]) -> dict[str, list[Any]]:
    return {
        "id": [order.id for order in orders],
        "tenant_id": [order.schedule["tenant_id"] for order in orders],
        "config": [Jsonb(order.config) for order in orders],
        "requested_by": [order.schedule["owner"] for order in orders],
        "requested_role": [order.schedule["owner_role"] for order in orders],
        "sealed": [order.sealed for order in orders],
        "schedule_id": [order.schedule["id"] for order in orders],
        "scheduled_for": [order.fire for order in orders],
        "window_end": [order.window_end for order in orders],
        "not_before": [
            jittered(str(order.schedule["id"]), order.fire, order.schedule["jitter_seconds"]) for order in orders
        ],
    }


def _moves_of(owing: Sequence[tuple[DictRow, Due]], orders: Sequence[_Order]) -> dict[str, list[Any]]:
    newest = {order.schedule["id"]: order for order in orders}  # the last of each is its newest
    last = [newest.get(row["id"]) for row, _ in owing]
    return {
        "id": [row["id"] for row, _ in owing],
        "next": [due.next_fire_at for _, due in owing],
        "fire": [order.fire if order else None for order in last],
        "request": [order.id if order else None for order in last],
    }


_DUE = """
    SELECT id, tenant_id, owner, owner_role, name, config, sealed_password, cron, timezone, data_window, catch_up,
           jitter_seconds, next_fire_at, covered_until
    FROM export_control.export_schedules
    WHERE state = 'active' AND deleted_at IS NULL AND next_fire_at <= %(now)s
    ORDER BY next_fire_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
_INSERT = """
    INSERT INTO export_control.export_requests
        (id, tenant_id, config, requested_by, requested_role, sealed_secrets, schedule_id, scheduled_for, window_end,
         not_before)
    SELECT * FROM unnest(%(id)s::uuid[], %(tenant_id)s::text[], %(config)s::jsonb[], %(requested_by)s::text[],
                         %(requested_role)s::text[], %(sealed)s::bytea[], %(schedule_id)s::uuid[],
                         %(scheduled_for)s::timestamptz[], %(window_end)s::timestamptz[], %(not_before)s::timestamptz[])
    ON CONFLICT ON CONSTRAINT one_request_a_fire DO NOTHING
"""
_ADVANCE = """
    UPDATE export_control.export_schedules AS s
    SET next_fire_at = m.next,
        last_fire_at = coalesce(m.fire, s.last_fire_at),
        last_run_at = CASE WHEN m.request IS NULL THEN s.last_run_at ELSE now() END,
        last_request_id = coalesce(m.request, s.last_request_id),
        last_status = CASE WHEN m.request IS NULL THEN s.last_status ELSE 'queued' END
    FROM unnest(%(id)s::uuid[], %(next)s::timestamptz[], %(fire)s::timestamptz[], %(request)s::uuid[])
        AS m (id, next, fire, request)
    WHERE s.id = m.id
"""
_FAIL = """
    UPDATE export_control.export_requests AS r
    SET status = 'failed', completed_at = now(), error_type = 'request_rejected', error_message = left(f.problem, 4000)
    FROM unnest(%(ids)s::uuid[], %(problems)s::text[]) AS f (id, problem) WHERE r.id = f.id
"""
_COUNT = """
    SELECT export_control.metric_add('schedule_fires', 'dispatched', '', '', %(requests)s),
           export_control.metric_add('schedule_fires', 'skipped', '', '', %(skipped)s)
"""
_PAUSE = """
    SELECT p.id, p.reason,
           export_control.pause_schedule(p.id, p.reason, json_build_object('reason', left(p.reason, 500))) AS paused
    FROM unnest(%(id)s::uuid[], %(reason)s::text[]) AS p (id, reason)
"""
