"""The files of an export in a mail: its data files or its archive, when they are small enough together.

Whether they may be attached at all was decided when the export was planned (`export_pipelines.core.notifying`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.ports import Attachment
from export_pipelines.core.wording import counted, readable_size
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.write.convert import DATA_FOLDER

MOST_FILES = 20


@dataclass(frozen=True, kw_only=True)
class Enclosed:
    """What goes into a mail, and what to say about it."""

    files: tuple[Attachment, ...] = ()
    note: str = ""


def enclosed_files(request_id: str, services: ExportServices) -> Enclosed:
    """The export's files, each as its manifest says; too many or too large ones stay behind their link."""
    rows = services.deliveries.files_of(request_id)
    chosen = [row for row in rows if row["path"].startswith(f"{DATA_FOLDER}/")]
    chosen = chosen or [row for row in rows if row["path"] != MANIFEST]  # an archive, with its manifest beside it
    size, limit = sum(row["size_bytes"] for row in chosen), services.settings.max_attachment
    if size > limit:
        return Enclosed(
            note=f"The files are not attached: together they have {readable_size(size)}, mails may carry "
            f"{readable_size(limit)}."
        )
    if len(chosen) > MOST_FILES:
        return Enclosed(
            note=f"The files are not attached: there are {counted(len(chosen), 'file')}, mails may carry {MOST_FILES}. "
            "An export with compression zip is one."
        )
    return Enclosed(files=tuple(_read(row, services) for row in chosen))


def _read(row: dict[str, Any], services: ExportServices) -> Attachment:
    with services.store.reading(row["key"]) as source:
        content = source.read(row["size_bytes"] + 1)
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        raise IntegrityViolation(f"{row['path']} is not what was published; nothing was sent")
    return Attachment(filename=row["path"].rpartition("/")[2], media_type=row["media_type"], content=content)
