"""Put the papers beside the data, and the whole into one archive where asked for. The manifest is made last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from export_pipelines.core.model import ExportFile, ExportPlan, Stage, TableVerdict
from export_pipelines.core.naming import CHECKSUMS, MANIFEST, download_name, slug, stage_prefix
from export_pipelines.packaging.archive import write_zip
from export_pipelines.packaging.documents import checksums, datapackage, readme
from export_pipelines.packaging.manifest import build_manifest, to_json
from export_pipelines.packaging.sinks import DigestSink
from export_pipelines.pipeline.heads import table_head
from export_pipelines.pipeline.services import ExportServices

_STORED = frozenset({"application/gzip", "application/vnd.apache.parquet"})


@dataclass(frozen=True, kw_only=True)
class StagedPackage:
    """A complete package below the attempt's stage folder, not yet public. The manifest is its last file."""

    files: tuple[ExportFile, ...]
    rows: int

    @property
    def manifest(self) -> ExportFile:
        return self.files[-1]


def assemble_package(
    plan: ExportPlan,
    stage: Stage,
    files: tuple[ExportFile, ...],
    verdicts: tuple[TableVerdict, ...],
    services: ExportServices,
    *,
    run_id: str,
) -> StagedPackage:
    """README, datapackage.json, SHA256SUMS, manifest.json; with ``compression: zip`` all of it in one archive."""
    spec = services.find_format(plan.format)
    papers = [
        _paper(plan, services, "README.md", "text/markdown", readme(plan, services.catalog, stage, files)),
        _paper(
            plan,
            services,
            "datapackage.json",
            "application/json",
            to_json(datapackage(plan, services.catalog, stage, files)),
        ),
    ]
    papers += [
        _paper(plan, services, f"schema/{name}", "application/xml", content)
        for name, content in spec_documents(plan, stage, services)
    ]
    named = [*files, *papers]
    named.append(_paper(plan, services, CHECKSUMS, "text/plain", checksums(named)))
    manifest = to_json(build_manifest(plan, services.catalog, stage, named, verdicts, spec=spec, run_id=run_id))
    named.append(_paper(plan, services, MANIFEST, "application/json", manifest))
    rows = sum(table.rows for table in stage.tables)
    if plan.compression != "zip":
        return StagedPackage(files=tuple(named), rows=rows)
    archive = _archive(plan, named, services, deflate=spec.compressible)
    return StagedPackage(files=(archive, named[-1]), rows=rows)


def spec_documents(plan: ExportPlan, stage: Stage, services: ExportServices) -> Iterable[tuple[str, bytes]]:
    """Files the format adds for its readers, such as an XML schema for each table."""
    spec = services.find_format(plan.format)
    if spec.describe is None:
        return
    for table in stage.tables:
        yield spec.describe(table_head(table, services))


def _paper(plan: ExportPlan, services: ExportServices, path: str, media_type: str, content: bytes) -> ExportFile:
    key = f"{stage_prefix(plan.request_id, plan.attempt)}/package/{path}"
    with services.store.writing(key) as sink:
        sink.write(content)
    return ExportFile(
        key=key,
        path=path,
        format="document",
        media_type=media_type,
        rows=0,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _archive(plan: ExportPlan, named: list[ExportFile], services: ExportServices, *, deflate: bool) -> ExportFile:
    path = download_name(plan.name, plan.request_id, "zip")
    key = f"{stage_prefix(plan.request_id, plan.attempt)}/package/{path}"
    members: list[tuple[str, AbstractContextManager[BinaryIO], bool]] = [
        (file.path, services.store.reading(file.key), file.media_type not in _STORED and (deflate or file.rows == 0))
        for file in named
    ]
    with services.store.writing(key) as stored:
        sink = DigestSink(stored)
        write_zip(sink, members, folder=slug(plan.name))  # type: ignore[arg-type]
    return ExportFile(
        key=key,
        path=path,
        format="zip",
        media_type="application/zip",
        rows=sum(file.rows for file in named),
        size_bytes=sink.size_bytes,
        sha256=sink.sha256,
        parts=tuple(part for file in named for part in file.parts),
    )
