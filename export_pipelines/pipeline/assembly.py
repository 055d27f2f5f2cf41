"""Opens each part that settings name; `export_pipelines.pipeline.services` puts them together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg

from export_pipelines.catalog.attestation import attest_session
from export_pipelines.catalog.check import check_drift
from export_pipelines.catalog.isolation import static_isolation
from export_pipelines.catalog.load import load_catalog
from export_pipelines.catalog.resolving import resolve
from export_pipelines.catalog.unknown import find_unknown
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.ports import ObjectStore
from export_pipelines.object_stores.opening import open_store
from export_pipelines.samples.loader import DEFAULT_SAMPLE, sample_catalog_path
from export_pipelines.settings import Settings
from export_pipelines.sources.engines import Choice, choose_engine
from export_pipelines.sources.postgres import PostgresSource
from export_pipelines.stores.secrets import SecretBox, open_secret_box


def catalog_path(settings: Settings) -> Path:
    """``EXPORT_CATALOG``, else the default sample's catalog."""
    return settings.catalog or sample_catalog_path(DEFAULT_SAMPLE)


def open_catalog(settings: Settings) -> Catalog:
    return load_catalog(catalog_path(settings))


def open_source(url: str, catalog: Catalog, decoder: Choice = "auto") -> PostgresSource:
    """The tenants' database; before any row of a table is read it is proved safe and as the catalog says."""
    engine = choose_engine(decoder)
    return PostgresSource(
        url,
        catalog,
        check_tables=require_sound,
        report=attest_session,
        compare=find_unknown,
        resolve=resolve,
        engine=engine,
    )


def open_object_store(settings: Settings) -> ObjectStore:
    secret = settings.s3_secret_access_key
    return open_store(
        settings.objects_url,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret.get_secret_value() if secret else None,
        sse=settings.s3_sse,
        sse_kms_key_id=settings.s3_sse_kms_key_id,
    )


def open_box(settings: Settings) -> SecretBox:
    """What seals the service's secrets; all its processes need the same key."""
    key = settings.secret_key
    return open_secret_box(key.get_secret_value() if key else None, settings.home.resolve())


def require_sound(connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str]) -> None:
    """`RequestRejected` with every reason why the tables are not isolated or are not what the catalog says.

    A source that gained a column or table is refused only where the catalog says ``drift: fail``.
    """
    names = set(tables)
    found = static_isolation(connection, catalog, names, catalog.reader_role)
    found += [finding for finding in check_drift(connection, catalog) if finding.table in names]
    errors = [str(finding).removeprefix("error: ") for finding in found if finding.level == "error"]
    if errors:
        raise RequestRejected(
            f"the source is not safe to read, or not what the catalog says: {' | '.join(errors)}", field="catalog"
        )
