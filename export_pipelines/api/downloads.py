"""Files of a finished export for those who may see it; permission is asked again at each download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from export_pipelines.api.files import File, archive_of, file_response, package_response
from export_pipelines.api.paths import JOBS
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import CurrentRequest, RequestContext
from export_pipelines.api.visibility import completed
from export_pipelines.core.access import Action
from export_pipelines.core.errors import IntegrityViolation, NotFound, Unavailable
from export_pipelines.core.naming import download_folder
from export_pipelines.stores.requests import ExportRequest

router = APIRouter(prefix=JOBS, tags=["downloads"], responses=ANSWERS)
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {}}, "description": "The bytes, of the file's own media type."},
    206: {"content": {"*/*": {}}, "description": "The part that Range asks for."},
    302: {"description": "Where the object store hands out the bytes, for a short while."},
}


@router.get("/{job_id}/download", summary="Download all files as one ZIP", response_class=Response, responses=_BYTES)
@router.head("/{job_id}/download", include_in_schema=False)
def download_package(context: CurrentRequest, request: Request, job_id: UUID) -> Response:
    """The package as one file: its archive where it has one, else a ZIP of its files. Can be resumed as a file can."""
    export, files = _files(context, job_id)
    archive = archive_of(files)
    if archive is not None:
        return _handed_out(context, job_id, lambda: file_response(request, archive, context.services))
    folder = download_folder(str(export.config.get("name") or ""), export.id)
    return _handed_out(context, job_id, lambda: package_response(request, files, folder, context.services.store))


@router.get("/{job_id}/download/{index}", summary="Download a file", response_class=Response, responses=_BYTES)
@router.head("/{job_id}/download/{index}", include_in_schema=False)
def download_file(
    context: CurrentRequest, request: Request, job_id: UUID, index: Annotated[int, Path(ge=0, le=1_000_000)]
) -> Response:
    """One file, by its `index` in the status; can be resumed with Range and If-Range."""
    _export, files = _files(context, job_id)
    file = next((file for file in files if file["position"] == index), None)
    if file is None:
        raise NotFound(f"this export has no file {index}; its status lists {len(files)}", field="index")
    return _handed_out(context, job_id, lambda: file_response(request, file, context.services))


def _handed_out(context: RequestContext, job_id: UUID, respond: Callable[[], Response]) -> Response:
    try:
        return respond()
    except (IntegrityViolation, Unavailable):
        _files(context, job_id)  # deleted meanwhile: then that is said
        raise


def _files(context: RequestContext, job_id: UUID) -> tuple[ExportRequest, list[File]]:
    with context.unit_of_work(Action.DOWNLOAD, str(job_id)) as work:
        export = completed(work, job_id)
        return export, list(work.deliveries.files_of(export.id))
