"""Schedules as people use them: save, look, pause, resume, run now, delete. Deleted ones stay for the history.

What makes requests of their fires is `export_pipelines.stores.dispatch`; what the outcome of a request does to its
schedule is a trigger in ``stores/schema``.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from typing import Any, Self
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from export_pipelines.core.access import Role
from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import DataWindow, stored_window, window_at, windowed
from export_pipelines.core.errors import Conflict, NotFound, RequestRejected
from export_pipelines.core.scheduling import ScheduleDraft, named
from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.control import Control
from export_pipelines.stores.paging import cursor_of, position_of
from export_pipelines.stores.passwords import is_sealed, sealed_config
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.secrets import SecretBox

LATE_AFTER = dt.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One row of ``export_schedules``."""

    id: str
    tenant_id: str
    owner: str
    owner_role: str | None  # in which its exports run; None: an operator's
    name: str
    config: dict[str, Any]  # says that there is a password, never which
    cron: str
    timezone: str
    data_window: dict[str, Any]
    catch_up: str
    jitter_seconds: int
    keep_days: int | None
    pause_after: int | None
    state: str  # active, paused
    paused_reason: str | None
    next_fire_at: dt.datetime  # while paused: the first that was missed
    last_fire_at: dt.datetime | None
    last_run_at: dt.datetime | None
    last_request_id: str | None
    last_status: RequestStatus | None
    covered_until: dt.datetime | None
    failures: int  # in a row
    late: bool  # a fire since the last completed export is none within the time expected
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        named = {field.name: row[field.name] for field in fields(cls)}
        ids = {name: str(row[name]) if row[name] else None for name in ("id", "last_request_id")}
        return cls(**{**named, **ids, "last_status": row["last_status"] and RequestStatus(row["last_status"])})

    @property
    def window(self) -> DataWindow:
        return stored_window(self.data_window)

    @property
    def recurrence(self) -> Cron:
        return Cron(expression=self.cron, timezone=self.timezone)

    def next_runs(self, now: dt.datetime, count: int = 5) -> list[dt.datetime]:
        """The next fires; none while it is paused, or when its timezone is none any more. An owed one comes first."""
        if self.state != "active":
            return []
        before = min(now, self.next_fire_at - dt.timedelta(microseconds=1))
        try:
            return self.recurrence.upcoming(before, count)
        except RequestRejected:  # the dispatcher pauses it with the reason
            return []


_COLUMNS = ", ".join(f"s.{field.name}" for field in fields(Schedule) if field.name != "late")


Found = list[Schedule]


class ScheduleStore:
    """Reads and guarded changes. Without a box it takes and tells no passwords."""

    def __init__(
        self, control: Control, secrets: SecretBox | None = None, *, late_after: dt.timedelta = LATE_AFTER
    ) -> None:
        self._control = control
        self._secrets = secrets
        self._late_after = late_after

    def create(self, draft: ScheduleDraft, *, tenant_id: str, owner: str, owner_role: Role | None) -> Schedule:
        """`Conflict` when the tenant has as many as it may."""
        schedule_id = str(uuid4())
        self._control.rows(
            """
            INSERT INTO export_control.export_schedules
                (id, tenant_id, owner, owner_role, name, config, sealed_password, cron, timezone, data_window, catch_up,
                 jitter_seconds, keep_days, pause_after, next_fire_at)
            VALUES (%(id)s, %(tenant_id)s, %(owner)s, %(owner_role)s, %(name)s, %(config)s, %(sealed)s, %(cron)s,
                    %(timezone)s, %(window)s, %(catch_up)s, %(jitter)s, %(keep_days)s, %(pause_after)s, %(next)s)
            """,
            {**self._values(draft, schedule_id), "tenant_id": tenant_id, "owner": owner, "owner_role": owner_role},
        )
        return self.get(schedule_id)

    def update(
        self, schedule_id: str, draft: ScheduleDraft, *, owner: str, owner_role: Role | None, version: int | None = None
    ) -> Schedule:
        """All of it anew. Whoever saves it owns it from now on; `Conflict` when it is not of the version expected.

        The next fire stays when neither cron nor timezone changes, and so does a password that the configuration only
        says is there.
        """
        before = self.get(schedule_id, lock=True)
        if version is not None and version != before.version:
            raise Conflict(f"is at version {before.version}; read it again and repeat the change", field="version")
        moved = (before.cron, before.timezone) != (draft.cron.expression, draft.cron.timezone)
        values = self._values(draft, schedule_id, known=is_sealed(before.config))
        remains = values["sealed"] is None and is_sealed(dict(draft.config))  # the API may not read what is there
        password = "" if remains else "sealed_password = %(sealed)s,"
        self._control.rows(
            f"""
            UPDATE export_control.export_schedules
            SET owner = %(owner)s, owner_role = %(owner_role)s, name = %(name)s, config = %(config)s,
                {password} cron = %(cron)s, timezone = %(timezone)s, data_window = %(window)s, catch_up = %(catch_up)s,
                jitter_seconds = %(jitter)s, keep_days = %(keep_days)s, pause_after = %(pause_after)s,
                next_fire_at = CASE WHEN %(moved)s THEN %(next)s ELSE next_fire_at END,
                covered_until = CASE WHEN data_window = %(window)s THEN covered_until END,
                version = version + 1, updated_at = now()
            WHERE id = %(id)s
            """,  # noqa: S608 - words of this module
            {**values, "owner": owner, "owner_role": owner_role, "moved": moved},
        )
        return self.get(schedule_id)

    def get(self, schedule_id: str, *, lock: bool = False) -> Schedule:
        """`NotFound` for unknown and deleted ones."""
        try:
            UUID(schedule_id)
        except ValueError as error:
            raise NotFound(f"{schedule_id!r} is not a schedule id", field="schedule_id") from error
        rows = self._rows("s.id = %(id)s", "FOR UPDATE" if lock else "", {"id": schedule_id})
        if not rows:
            raise NotFound(f"there is no schedule {schedule_id}", field="schedule_id")
        return rows[0]

    def page(
        self, *, tenant_id: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[Found, str | None]:
        """Newest first, and the cursor of the next page; all that the caller may see unless one tenant is named."""
        after_at, after_id = position_of(cursor) if cursor else (None, None)
        found = self._rows(
            """
            (%(tenant_id)s::text IS NULL OR s.tenant_id = %(tenant_id)s)
            AND (%(after_at)s::timestamptz IS NULL OR (s.created_at, s.id) < (%(after_at)s, %(after_id)s::uuid))
            """,
            "ORDER BY s.created_at DESC, s.id DESC LIMIT %(limit)s + 1",
            {"tenant_id": tenant_id, "after_at": after_at, "after_id": after_id, "limit": limit},
        )
        shown = found[:limit]
        return shown, cursor_of(shown[-1].created_at, shown[-1].id) if len(found) > limit else None

    def pause(self, schedule_id: str, *, reason: str) -> Schedule:
        if self.get(schedule_id, lock=True).state == "paused":
            raise Conflict("is paused already", field="schedule_id")
        return self._set(schedule_id, "state = 'paused', paused_reason = left(%(reason)s, 2000)", reason=reason)

    def resume(self, schedule_id: str, *, now: dt.datetime, catch_up: bool = False) -> Schedule:
        """From now on; with ``catch_up`` what was missed meanwhile is for the schedule's policy."""
        schedule = self.get(schedule_id, lock=True)
        if schedule.state == "active":
            raise Conflict("is active already", field="schedule_id")
        following = schedule.next_fire_at if catch_up else schedule.recurrence.next_fire(now)
        if following is None:
            raise RequestRejected(f"{schedule.cron!r} names no date that is still to come", field="cron")
        return self._set(
            schedule_id,
            "state = 'active', paused_reason = NULL, failures = 0, next_fire_at = greatest(%(next)s, next_fire_at)",
            next=following,
        )

    def run_now(self, schedule_id: str, *, now: dt.datetime, requested_by: str, requested_role: Role | None) -> str:
        """A request as if it fired now, in the name of whoever asks; its id. No fire is used up."""
        schedule = self.get(schedule_id, lock=True)
        window = window_at(schedule.window, now, timezone=schedule.timezone, covered_until=schedule.covered_until)
        config = named(windowed(schedule.config, window, schedule.window.whole_tables), schedule.name)
        request_id = RequestStore(self._control, self._secrets).insert(
            tenant_id=schedule.tenant_id,
            config=config,
            requested_by=requested_by,
            requested_role=requested_role,
            schedule_id=schedule_id,
            window_end=window.end_at,
        )
        self._set(
            schedule_id,
            "last_request_id = %(request)s, last_status = 'queued', last_run_at = now()",
            request=request_id,
        )
        return request_id

    def delete(self, schedule_id: str) -> Schedule:
        """It fires no more, and its password is gone; exports that it made stay."""
        schedule = self.get(schedule_id, lock=True)
        self._control.rows(
            """
            UPDATE export_control.export_schedules
            SET deleted_at = now(), sealed_password = NULL, version = version + 1 WHERE id = %(id)s
            """,
            {"id": schedule_id},
        )
        return schedule

    def _set(self, schedule_id: str, changes: str, **values: Any) -> Schedule:
        self._control.rows(
            f"UPDATE export_control.export_schedules SET {changes}, updated_at = now() WHERE id = %(id)s",  # noqa: S608
            {"id": schedule_id, **values},
        )
        return self.get(schedule_id)

    def _rows(self, condition: str, end: str, values: dict[str, Any]) -> Found:
        rows = self._control.rows(
            f"""
            SELECT {_COLUMNS}, export_control.is_late(s.id, s.state, s.deleted_at, s.next_fire_at, s.fulfilled_at,
                                                      s.jitter_seconds, %(late_after)s) AS late
            FROM export_control.export_schedules AS s WHERE s.deleted_at IS NULL AND {condition} {end}
            """,  # noqa: S608 - words of this module
            {"late_after": self._late_after, **values},
        )
        return [Schedule.of(row) for row in rows]

    def _values(self, draft: ScheduleDraft, schedule_id: str, *, known: bool = False) -> dict[str, Any]:
        config, password = sealed_config(dict(draft.config))
        if is_sealed(config) and password is None and not known:
            raise RequestRejected("is needed", field="encryption.password")
        return {
            "id": schedule_id,
            "name": draft.name,
            "config": Jsonb(config),
            "sealed": self._box().seal(password.get_secret_value(), schedule_id) if password else None,
            "cron": draft.cron.expression,
            "timezone": draft.cron.timezone,
            "window": Jsonb(draft.window.model_dump(mode="json", exclude_defaults=True)),
            "catch_up": draft.catch_up,
            "jitter": draft.jitter_seconds,
            "keep_days": draft.keep_days,
            "pause_after": draft.pause_after,
            "next": draft.next_fire_at,
        }

    def _box(self) -> SecretBox:
        if self._secrets is None:
            raise RequestRejected("cannot be used here; work where the service's key is", field="EXPORT_SECRET_KEY")
        return self._secrets
