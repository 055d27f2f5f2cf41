"""Put the package documents beside the data, and the whole into one archive where asked for. The manifest is made
last, and signed.

How an archive is written, encrypted and checked is `export_pipelines.pipeline.publish.archiving`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import ExportFile, ExportPlan, Stage, TableVerdict
from export_pipelines.core.naming import CHECKSUMS, MANIFEST, stage_prefix
from export_pipelines.core.packing import ARCHIVE
from export_pipelines.core.signing import Signer
from export_pipelines.packaging.documents import checksums, datapackage
from export_pipelines.packaging.manifest import build_manifest, sealed_manifest, to_json
from export_pipelines.packaging.migration_scripts import migration_files
from export_pipelines.packaging.readme import readme
from export_pipelines.packaging.signing import signed
from export_pipelines.pipeline.publish.archiving import seal_package, zip_package
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.write.heads import table_head

DOCUMENT = "document"  # in the place of a format


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
) -> StagedPackage:
    """README, datapackage.json, SHA256SUMS, manifest.json; zipped or encrypted all of it in one archive.

    `RequestRejected` when a file is larger than the service allows; nothing is public by then.
    """
    spec = services.find_format(plan.format)
    documents = [
        _document_file(
            plan, services, "README.md", "text/markdown", readme(plan, services.catalog, stage, files, spec=spec)
        ),
        _document_file(
            plan,
            services,
            "datapackage.json",
            "application/json",
            to_json(datapackage(plan, services.catalog, stage, files, joinable=spec.joinable)),
        ),
    ]
    documents += [
        _document_file(plan, services, f"schema/{name}", "application/xml", content)
        for name, content in spec_documents(plan, stage, services)
    ]
    if stage.migration is not None:
        scripts = migration_files(plan, stage.migration, files)
        documents += [
            _document_file(plan, services, name, "application/sql", script) for name, script in scripts.items()
        ]
    named = [*files, *documents]
    named.append(_document_file(plan, services, CHECKSUMS, "text/plain", checksums(named)))
    signer = services.signing.signer()
    manifest = signed(build_manifest(plan, services.catalog, stage, named, verdicts, spec=spec), signer)
    named.append(_document_file(plan, services, MANIFEST, "application/json", to_json(manifest)))
    rows = sum(table.rows for table in stage.tables)
    files = _closed(plan, named, services, signer, deflate=spec.compressible)
    _require_within(files, services.settings.max_file_size)
    return StagedPackage(files=files, rows=rows)


def _closed(
    plan: ExportPlan, named: list[ExportFile], services: ExportServices, signer: Signer, *, deflate: bool
) -> tuple[ExportFile, ...]:
    """The files as they are published: as they are, or as one archive with a manifest beside it."""
    if plan.sealing is not None:
        sealed = seal_package(plan, plan.sealing, named, services, deflate=deflate)
        manifest = to_json(signed(sealed_manifest(plan, plan.sealing, sealed), signer))
        return sealed, _document_file(plan, services, MANIFEST, "application/json", manifest)
    if plan.compression == ARCHIVE:
        return zip_package(plan, named, services, deflate=deflate), named[-1]
    return tuple(named)


def _require_within(files: Iterable[ExportFile], limit_bytes: int | None) -> None:
    """Documents do not count: they are what a package is described by, and nobody could ask for smaller ones."""
    for file in files:
        if limit_bytes is not None and file.format != DOCUMENT and file.size_bytes > limit_bytes:
            raise RequestRejected(
                f"{file.path} would have {file.size_bytes:,} bytes, more than the {limit_bytes:,} that "
                "EXPORT_MAX_FILE_SIZE allows, and cannot be split; export fewer tables or a shorter date range at a "
                "time, or have the limit raised",
                field="EXPORT_MAX_FILE_SIZE",
            )


def spec_documents(plan: ExportPlan, stage: Stage, services: ExportServices) -> Iterable[tuple[str, bytes]]:
    """Files the format adds for its readers, such as an XML schema for each table."""
    spec = services.find_format(plan.format)
    if spec.describe is None:
        return
    for table in stage.tables:
        yield spec.describe(table_head(table, services))


def _document_file(
    plan: ExportPlan, services: ExportServices, path: str, media_type: str, content: bytes
) -> ExportFile:
    key = f"{stage_prefix(plan.request_id, plan.attempt)}/package/{path}"
    with services.store.writing(key) as sink:
        sink.write(content)
    return ExportFile(
        key=key,
        path=path,
        format=DOCUMENT,
        media_type=media_type,
        rows=0,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        crc32=zlib.crc32(content),
    )
