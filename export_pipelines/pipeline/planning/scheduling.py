"""What can be refused before a schedule is saved, and the schedules that come ready made."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from export_pipelines.core.access import Role
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import Configuration
from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import check_window, window_at, windowed
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.scheduling import ScheduleDraft, ScheduleOrder
from export_pipelines.core.whole_tables import WholeTable
from export_pipelines.core.windows import Window
from export_pipelines.pipeline.planning.orders import Order, plan_order


class Preset(StrEnum):
    """Exports that come ready made."""

    PRIVATE_BACKUP = "private_backup"  # all tables that the role may export, encrypted


def check_schedule(
    order: ScheduleOrder,
    fired: Order,
    catalog: Catalog,
    *,
    now: dt.datetime,
    least_gap: dt.timedelta,
    longest_keep: dt.timedelta,
) -> ScheduleDraft:
    """What is to be kept; `RequestRejected` for whatever the export of its next fire would be refused for.

    ``fired`` is what each fire orders, but for its window.

    Catalog and role are looked at again by the run of every export.
    """
    cron = order.as_cron()
    _check_gap(order, cron, least_gap)
    fire = cron.next_fire(now)
    if fire is None:
        raise RequestRejected(f"{cron.expression!r} names no date that is still to come", field="cron")
    check_window(order.window, fired.configuration.config, catalog)
    window = window_at(order.window, fire, timezone=cron.timezone)
    plan_order(_limited(fired, window, order.window.whole_tables), catalog, longest_keep=longest_keep)
    return ScheduleDraft(
        name=order.name,
        config=fired.configuration.written,
        cron=cron,
        window=order.window,
        catch_up=order.catch_up,
        jitter_seconds=order.jitter_seconds,
        keep_days=order.keep_days,
        pause_after=order.pause_after_failures,
        next_fire_at=fire,
    )


def _limited(fired: Order, window: Window, whole_tables: WholeTable | tuple[str, ...] | None) -> Order:
    """What a fire orders, with its window as the range of every table but those that are exported whole."""
    if window.unbounded:
        return fired
    written = windowed(fired.configuration.written, window, whole_tables)
    return replace(fired, configuration=Configuration.of(written))


def _check_gap(order: ScheduleOrder, cron: Cron, least: dt.timedelta) -> None:
    """Each fire is a run for the whole service, and no rate limit stands before it."""
    gap = cron.least_gap()
    if gap < least:
        raise RequestRejected(
            f"{cron.expression!r} fires again after {_length(gap)}; leave {_length(least)} or more between two fires",
            field="cron" if order.cron is not None else "frequency",
        )


def _length(span: dt.timedelta) -> str:
    seconds = int(span.total_seconds())
    return f"{seconds} seconds" if seconds % 60 else f"{seconds // 60} minutes"


def preset_config(preset: Preset, encryption: Mapping[str, Any] | None, catalog: Catalog, role: Role | None) -> Any:
    """The configuration of a preset, of the tables that are there now."""
    assert preset is Preset.PRIVATE_BACKUP
    if not encryption or encryption.get("enabled") is False:
        raise RequestRejected("is what makes a backup private; give a password, or recipients", field="encryption")
    tables = [name for name, table in catalog.tables.items() if role is None or role in table.roles]
    if not tables:
        raise RequestRejected(f"has no table that the role {role} may export", field="preset")
    return {
        "name": "Private backup",
        "tables": tables,
        "filters": {"include_deleted": True},
        "format": "parquet",
        "encryption": dict(encryption),
    }
