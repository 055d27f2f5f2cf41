"""Schedules of tenants in the control database, some of them due: what the sensors make requests and runs of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import closing

from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import DataWindow
from export_pipelines.core.recurrence import CatchUp
from export_pipelines.core.scheduling import ScheduleDraft
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.schedules import ScheduleStore

SCHEDULES, DUE = 10_000, 1_000


def schedule(control_url: str, tenants: Sequence[str], *, now: dt.datetime, count: int = SCHEDULES) -> None:
    """So many daily schedules spread over the tenants, none due. One is made by the store, the others from it."""
    tomorrow = _midnight(now) + dt.timedelta(days=1)
    draft = ScheduleDraft(
        name="Pets",
        config={"tables": ["pets"], "format": "csv"},
        cron=Cron(expression="0 0 * * *", timezone="UTC"),
        window=DataWindow.model_validate("previous_day"),
        catch_up=CatchUp.LATEST,
        jitter_seconds=0,
        keep_days=None,
        pause_after=3,
        next_fire_at=tomorrow,
    )
    with closing(ControlDatabase(control_url)) as control:
        made = ScheduleStore(control).create(draft, tenant_id=tenants[0], owner="bench", owner_role=None)
        control.rows(_COPY, {"id": made.id, "tenants": list(tenants), "count": count - 1})


def make_due(control_url: str, count: int = DUE, *, now: dt.datetime) -> None:
    """So many have not fired last midnight yet."""
    with closing(ControlDatabase(control_url)) as control:
        control.rows(_DUE, {"count": count, "midnight": _midnight(now)})


def _midnight(now: dt.datetime) -> dt.datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


_COPY = """
    INSERT INTO export_control.export_schedules
    SELECT (jsonb_populate_record(model, jsonb_build_object(
        'id', gen_random_uuid(), 'tenant_id', (%(tenants)s::text[])[1 + number %% cardinality(%(tenants)s::text[])]
    ))).*
    FROM export_control.export_schedules AS model, generate_series(1, %(count)s) AS number
    WHERE model.id = %(id)s RETURNING 1
"""
_DUE = """
    UPDATE export_control.export_schedules SET next_fire_at = %(midnight)s
    WHERE id IN (
        SELECT id FROM export_control.export_schedules WHERE next_fire_at > %(midnight)s ORDER BY id LIMIT %(count)s
    )
    RETURNING 1
"""
