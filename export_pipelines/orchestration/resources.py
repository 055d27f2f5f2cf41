"""Typed resources. They hold configuration; the adapters they open know no Dagster.

Secrets arrive as `EnvVar`, so that the UI shows the variable's name and never its value.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Literal

from dagster import ConfigurableResource, EnvVar, InitResourceContext
from pydantic import Field, PrivateAttr, SecretStr

from export_pipelines.catalog.load import load_catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import LakeRetention
from export_pipelines.core.ports import ObjectStore
from export_pipelines.destinations.registry import Destinations, all_destinations, destinations_of
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.object_stores.opening import open_store
from export_pipelines.pipeline.assembly import catalog_path, open_source, storage_url
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.settings import Settings
from export_pipelines.sources.postgres import PostgresSource
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.dispatch import Dispatcher
from export_pipelines.stores.export_statistics import MeasureStore
from export_pipelines.stores.links import LinkStore
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.retention import RetentionStore
from export_pipelines.stores.secrets import open_secret_box
from export_pipelines.stores.service_state import ServiceStateStore
from export_pipelines.stores.signing_keys import SigningKeyStore


class SourceResource(ConfigurableResource):
    """The tenants' database, read as one tenant at a time."""

    url: str = Field(description="PostgreSQL URL of a login that may become the catalog's reader role.")
    catalog: str = Field(description="Path of the catalog file.")
    decoder: Literal["auto", "native", "adbc"] = "auto"

    def open(self) -> PostgresSource:
        return open_source(_given(self.url, "EXPORT_SOURCE_URL"), load_catalog(Path(self.catalog)), self.decoder)


class ObjectStoreResource(ConfigurableResource):
    """Where stage, lake and packages live: a folder or S3."""

    url: str = Field(description="s3://bucket/prefix or a folder.")
    endpoint: str = Field(default="", description="Endpoint of an S3-compatible service.")
    region: str = ""
    access_key_id: str = Field(default="", description="Empty: the AWS credential chain.")
    secret_access_key: str = ""
    sse: str = Field(default="", description="AES256 or aws:kms.")
    sse_kms_key_id: str = ""

    def open(self) -> ObjectStore:
        return open_store(
            self.url,
            endpoint=self.endpoint or None,
            region=self.region or None,
            access_key_id=self.access_key_id or None,
            secret_access_key=self.secret_access_key or None,
            sse=self.sse or None,
            sse_kms_key_id=self.sse_kms_key_id or None,
        )


class DestinationsResource(ConfigurableResource):
    """What the operator's settings say of each kind of destination; which settings those are, the kinds say."""

    values: dict[str, str] = Field(default={}, description="Settings that are set, as JSON.")
    secrets: dict[str, str] = Field(default={}, description="Secret ones.")

    def open(self) -> Destinations:
        return destinations_of({name: json.loads(text) for name, text in self.values.items()} | self.secrets)


class ControlResource(ConfigurableResource):
    """The service's own state: requests, deliveries, links."""

    url: str = Field(description="PostgreSQL URL with the schema export_control.")

    def open(self) -> ControlDatabase:
        return ControlDatabase(_given(self.url, "EXPORT_CONTROL_URL"))


class ExportResource(ConfigurableResource):
    """Everything the steps of an export work with."""

    source: SourceResource
    store: ObjectStoreResource
    destinations: DestinationsResource
    control: ControlResource
    scratch: str = Field(description="Local folder for sorting and re-reading.")
    link_ttl_seconds: int
    keep_seconds: int
    keep_canonical: bool = True
    sweep_seconds: int = 86_400
    history_days: int = 30
    public_url: str
    heartbeat_seconds: float = 1.0
    stale_seconds: int = 60
    outage_deadline_seconds: int = 14_400
    max_file_bytes: int | None = Field(default=None, description="Of every file of a package; unset: any size.")
    max_attachment_bytes: int = Field(default=10_000_000, description="Of all files of a mail together.")
    lake_snapshots: int = Field(default=3, description="Newest snapshots kept of each partition.")
    lake_days: int = Field(default=0, description="Older ones are kept until they are so many days old.")
    home: str = Field(description="Folder with the key that seals the secrets of the service, unless one is given.")
    secret_key: str = Field(default="", description="Base64 of that key.")
    _opened: ExportServices | None = PrivateAttr(default=None)
    _control: ControlDatabase | None = PrivateAttr(default=None)

    @property
    def services(self) -> ExportServices:
        """Opened once a process; connects to nothing until used."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    @property
    def stale_after(self) -> dt.timedelta:
        """Silence after which a run is looked at."""
        return dt.timedelta(seconds=self.stale_seconds)

    def teardown_after_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Close what a run opened."""
        if self._control is not None:
            self._control.close()

    def _open(self) -> ExportServices:
        control = self._control = self.control.open()
        source = self.source.open()
        secrets = open_secret_box(self.secret_key or None, Path(self.home))
        return ExportServices(
            catalog=source.catalog,
            source=source,
            store=self.store.open(),
            requests=RequestStore(control, secrets, outage_deadline=dt.timedelta(seconds=self.outage_deadline_seconds)),
            state=ServiceStateStore(control),
            deliveries=DeliveryStore(control),
            measures=MeasureStore(control),
            signing=SigningKeyStore(control, secrets),
            links=LinkStore(control),
            schedules=Dispatcher(control, secrets),
            retention=RetentionStore(control),
            formats=all_formats,
            find_format=find_format,
            destinations=self.destinations.open(),
            scratch=Path(self.scratch),
            link_ttl=dt.timedelta(seconds=self.link_ttl_seconds),
            public_url=self.public_url,
            keep_exports=dt.timedelta(seconds=self.keep_seconds),
            keep_canonical=self.keep_canonical,
            sweep_after=dt.timedelta(seconds=self.sweep_seconds),
            heartbeat_seconds=self.heartbeat_seconds,
            exclusively=control.exclusively,
            reading_control=control.reading,
            lake_retention=LakeRetention(snapshots=self.lake_snapshots, days=self.lake_days),
            max_file_bytes=self.max_file_bytes,
            max_attachment_bytes=self.max_attachment_bytes,
        )


def export_resource(settings: Settings) -> ExportResource:
    """The resources that the settings describe."""
    home = settings.home.resolve()
    return ExportResource(
        source=SourceResource(
            url=_secret(settings.source_url, "EXPORT_SOURCE_URL"),
            catalog=str(catalog_path(settings).resolve()),
            decoder=settings.decoder,
        ),
        store=ObjectStoreResource(
            url=storage_url(settings),
            endpoint=settings.s3_endpoint or "",
            region=settings.s3_region or "",
            access_key_id=settings.s3_access_key_id or "",
            secret_access_key=_secret(settings.s3_secret_access_key, "S3_SECRET_ACCESS_KEY"),
            sse=settings.s3_sse or "",
            sse_kms_key_id=settings.s3_sse_kms_key_id or "",
        ),
        destinations=_destinations(settings),
        control=ControlResource(url=_secret(settings.control_url, "EXPORT_CONTROL_URL")),
        scratch=str(home / "scratch"),
        link_ttl_seconds=settings.link_ttl,
        keep_seconds=settings.keep_seconds,
        keep_canonical=settings.keep_canonical,
        sweep_seconds=settings.sweep_seconds,
        history_days=settings.history_days,
        public_url=settings.pages_url,
        heartbeat_seconds=settings.heartbeat_seconds,
        stale_seconds=settings.stale_seconds,
        outage_deadline_seconds=settings.outage_deadline_seconds,
        max_file_bytes=settings.max_file_size,
        max_attachment_bytes=settings.max_attachment,
        lake_snapshots=settings.lake_snapshots,
        lake_days=settings.lake_days,
        home=str(home),
        secret_key=_secret(settings.secret_key, "EXPORT_SECRET_KEY"),
    )


def _destinations(settings: Settings) -> DestinationsResource:
    named = {name for spec in all_destinations().values() for name in spec.operator.model_fields}
    stated = {name: value for name in sorted(named) if (value := getattr(settings, name)) is not None}
    secret = {name for name, value in stated.items() if isinstance(value, SecretStr)}
    return DestinationsResource(
        values={name: _as_json(value) for name, value in stated.items() if name not in secret},
        secrets={name: EnvVar(settings.variable(name)) for name in sorted(secret)},
    )


def _as_json(value: object) -> str:
    return json.dumps(value, default=_absolute)


def _absolute(value: object) -> str:
    """A path from the root: a run need not begin in the folder that the settings were read in."""
    if isinstance(value, Path):
        return str(value.resolve())
    raise TypeError(f"a destination's setting is a {type(value).__name__}, which has no form in JSON yet")


def _secret(value: object, name: str) -> str:
    return EnvVar(name) if value is not None else ""


def _given(value: str, name: str) -> str:
    if not value:
        raise RequestRejected(
            "is not set; give a postgresql:// URL, or start through `export-pipelines up`", field=name
        )
    return value
