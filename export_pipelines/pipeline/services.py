"""What the steps work with, put together once by the shells."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import LakeRetention
from export_pipelines.core.ports import FormatSpec, ObjectStore, Source
from export_pipelines.core.signing import SigningKeys
from export_pipelines.destinations.registry import Destinations
from export_pipelines.stores.control import Lock
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.dispatch import Dispatcher
from export_pipelines.stores.export_statistics import MeasureStore
from export_pipelines.stores.links import LinkStore
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.retention import RetentionStore
from export_pipelines.stores.service_state import ServiceStateStore


@dataclass(frozen=True, kw_only=True)
class ExportServices:
    """One catalog, one source, one object store, one control database."""

    catalog: Catalog
    source: Source
    store: ObjectStore
    requests: RequestStore
    deliveries: DeliveryStore
    measures: MeasureStore
    signing: SigningKeys  # what manifests are signed with
    links: LinkStore
    schedules: Dispatcher  # fires into requests
    retention: RetentionStore
    state: ServiceStateStore
    formats: Callable[[], Mapping[str, FormatSpec]]
    find_format: Callable[[str], FormatSpec]
    destinations: Destinations
    scratch: Path  # local folder for sorting and re-reading; emptied by whoever fills it
    link_ttl: dt.timedelta
    public_url: str  # where people reach the download pages, without a trailing slash
    keep_exports: dt.timedelta
    keep_canonical: bool  # for conversions, as long as the package
    sweep_after: dt.timedelta  # how long something lies still before it can be a leftover
    heartbeat_seconds: float
    lake_retention: LakeRetention
    max_file_bytes: int | None = None  # of every file of a package; None: any size
    max_attachment_bytes: int = 10_000_000  # of all files of a mail together
    exclusively: Callable[[str], AbstractContextManager[Lock]]  # a lock against all other processes
    reading_control: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]  # a snapshot of the service's state
