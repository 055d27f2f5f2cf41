"""Published packages for tests of what comes after: rows in a control database, files in a store."""

from __future__ import annotations

import datetime as dt
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from export_pipelines.core.access import Role
from export_pipelines.core.model import ExportFile, Package, PlannedDelivery
from export_pipelines.core.ports import ObjectStore
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.links import LinkStore
from export_pipelines.stores.requests import RequestStore

KEEP = dt.timedelta(days=30)
FILES = {"pets.csv": b"id,name\n1,Rex\n2,Mia\n", "README.md": b"# Pets\n", "manifest.json": b"{}\n"}


def mails(*recipients: str, **options: Any) -> tuple[PlannedDelivery, ...]:
    """A mail to each, as planning makes them."""
    return tuple(PlannedDelivery(method="email", recipient=recipient, options=options) for recipient in recipients)


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Makes completed requests without running an export."""

    control: ControlDatabase
    store: ObjectStore

    @property
    def deliveries(self) -> DeliveryStore:
        return DeliveryStore(self.control)

    @property
    def links(self) -> LinkStore:
        return LinkStore(self.control)

    @property
    def requests(self) -> RequestStore:
        return RequestStore(self.control)

    def publish(
        self,
        files: Mapping[str, bytes] = FILES,
        *,
        name: str = "Pets",
        tenant: str = "clinic-1",
        user: str | None = None,
        role: Role | None = None,
        deliveries: tuple[PlannedDelivery, ...] = (),
    ) -> str:
        """The id of a completed request whose package holds these files."""
        config = {"name": name, "tables": ["pets"], "format": "csv"}
        request_id = self.requests.insert(tenant_id=tenant, config=config, requested_by=user, requested_role=role)
        run_id = f"run-{request_id}"
        assert self.requests.claim(request_id, attempt=1, run_id=run_id)
        prefix = f"exports/{tenant}/{request_id}"
        stored = tuple(self._stored(prefix, path, content) for path, content in files.items())
        package = Package(
            prefix=prefix,
            files=stored,
            manifest_sha256=stored[-1].sha256,
            rows=sum(file.rows for file in stored),
            size_bytes=sum(file.size_bytes for file in stored),
        )
        assert self.requests.complete(request_id, run_id=run_id, package=package, deliveries=deliveries, keep=KEEP)
        return request_id

    def link(self, request_id: str, *, hours: float = 1) -> str:
        """The token of a new link."""
        expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
        return self.links.make(request_id, expires_at=expires_at)[0]

    def change(self, statement: str, **values: Any) -> None:
        """What time or an operator would do to the rows."""
        self.control.rows(statement, values)

    def _stored(self, prefix: str, path: str, content: bytes) -> ExportFile:
        key = f"{prefix}/{path}"
        with self.store.writing(key) as sink:
            sink.write(content)
        return ExportFile(
            key=key,
            path=path,
            format="csv" if path.endswith(".csv") else "document",
            media_type="text/csv" if path.endswith(".csv") else "text/plain",
            rows=max(0, content.count(b"\n") - 1) if path.endswith(".csv") else 0,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            crc32=zlib.crc32(content),
        )
