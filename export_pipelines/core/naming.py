"""Object keys and file names. Nothing else builds a key.

Tenant ids, request ids and names come from outside: every part is made safe here, reversibly where it must stay
unique, so that no value can climb out of its folder.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from export_pipelines.core.catalog import Grain
from export_pipelines.core.model import TenantScope
from export_pipelines.core.package_paths import reader_key

MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
_MAX_SEGMENT = 200  # file systems take 255 bytes; some segments get a prefix or an extension
_KEPT_OF_LONG = 120
_SAFE = "-_~@+=,"  # beside letters, digits and the dot, in a segment
_MAX_SLUG, _MAX_SLUG_BYTES = 60, 180
_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


class Area(StrEnum):
    """Top folders of the object store."""

    LAKE = "lake"
    STAGE = "stage"
    CANONICAL = "canonical"
    EXPORTS = "exports"


@dataclass(frozen=True, kw_only=True)
class RequestFolder:
    """A folder that belongs to one request."""

    area: Area
    prefix: str
    request_id: str
    attempt: int | None = None  # of a stage


_REQUEST_FOLDERS = {
    Area.STAGE: re.compile(rf"stage/(?P<request>{_ID})/(?P<attempt>[0-9]{{1,9}})(?=/)"),
    Area.CANONICAL: re.compile(rf"canonical/[^/]+/(?P<request>{_ID})(?=/)"),
    Area.EXPORTS: re.compile(rf"exports/[^/]+/[^/]+/[0-9]{{4}}/[0-9]{{2}}/[0-9]{{2}}/(?P<request>{_ID})(?=/)"),
}
_GENERATION, _GENERATION_TIME = "snapshot=", "%Y%m%dT%H%M%S.%fZ"


def segment(value: str) -> str:
    """One path segment for any text: percent-encoded, so distinct values stay distinct; never hidden, never too long.

    What the encoding itself never makes marks the exceptions: ``%`` stands for the empty text, ``%~`` comes before the
    digest of one that is too long for a file name.
    """
    encoded = quote(value, safe=_SAFE, errors="surrogatepass")
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if len(encoded) > _MAX_SEGMENT:
        digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()
        encoded = f"{encoded[:_KEPT_OF_LONG]}%~{digest}"
    return encoded or "%"


def slug(value: str) -> str:
    """A readable file-name part: letters and digits of all scripts, dashes; never empty, in one normal form.

    At most 60 characters and 180 bytes, so that a name with an id and an extension fits into what file systems take.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).lower())
    kept = "".join(char if unicodedata.category(char)[0] in "LMN" else " " for char in text)
    words = (word.lstrip("".join(filter(_is_mark, word))) for word in kept.split())  # no mark without its letter
    joined = "-".join(word for word in words if word)[:_MAX_SLUG]
    return joined.encode()[:_MAX_SLUG_BYTES].decode(errors="ignore").strip("-") or "export"


def lake_prefix(catalog: str, table: str, scope: TenantScope, grain: Grain, period: dt.date | None) -> str:
    """Folder of one materialised partition."""
    base = f"{lake_prefix_of_catalog(catalog)}/{segment(table)}/tenant={segment(scope.tenant_id)}"
    if grain is Grain.NONE or period is None:
        return base
    return f"{base}/{grain.value}={period:%Y-%m}" if grain is Grain.MONTH else f"{base}/{grain.value}={period:%Y-%m-%d}"


def lake_prefix_of_catalog(catalog: str) -> str:
    """Folder of all that is materialised of a catalog."""
    return f"lake/{segment(catalog)}"


def lake_generation(taken_at: dt.datetime) -> str:
    """Folder of a partition as one snapshot had it, inside the partition's; their names sort as time does."""
    return f"{_GENERATION}{taken_at.astimezone(dt.UTC).strftime(_GENERATION_TIME)}"


def generation_time(folder: str) -> dt.datetime | None:
    """When the snapshot of such a folder was taken; None for any other name."""
    if not folder.startswith(_GENERATION):
        return None
    try:
        return dt.datetime.strptime(folder.removeprefix(_GENERATION), _GENERATION_TIME).replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def stage_prefix(request_id: str, attempt: int) -> str:
    """Folder of everything one attempt writes before it publishes."""
    return f"stage/{segment(request_id)}/{attempt}"


def canonical_prefix(scope: TenantScope, request_id: str) -> str:
    """Folder of the canonical Parquet kept for conversions of a finished export."""
    return f"canonical/{segment(scope.tenant_id)}/{segment(request_id)}"


def lake_stage_prefix(run_id: str = "") -> str:
    """Folder of what a run writes before it is checked and moved into the lake; without a run, that of all runs."""
    return f"stage/lake/{segment(run_id)}" if run_id else "stage/lake"


def export_prefix(scope: TenantScope, export_type: str, requested_at: dt.datetime, request_id: str) -> str:
    """Folder of a published package; the same for every attempt, so a retry can only replace its own output."""
    return f"exports/{segment(scope.tenant_id)}/{segment(export_type)}/{requested_at:%Y/%m/%d}/{segment(request_id)}"


def request_folder(key: str) -> RequestFolder | None:
    """Which request's folder a key lies in; None for what is not made by `stage_prefix` and its fellows."""
    for area, form in _REQUEST_FOLDERS.items():
        if found := form.match(key):
            attempt = found["attempt"] if area is Area.STAGE else None
            return RequestFolder(
                area=area, prefix=found[0], request_id=found["request"], attempt=int(attempt) if attempt else None
            )
    return None


def lake_run(key: str) -> str | None:
    """The run whose part of the lake's stage a key lies in."""
    run, slash, _ = key.removeprefix(f"{lake_stage_prefix()}/").partition("/")
    return run if slash and key.startswith(f"{lake_stage_prefix()}/") else None


def probe_prefix() -> str:
    """Folder of the objects that are written to see whether the store takes any."""
    return "stage/probe"


def probe_key(name: str) -> str:
    """Such an object, of one process."""
    return f"{probe_prefix()}/{segment(name)}"


def part_name(name: str, part: int, extension: str, *, period: str | None = None) -> str:
    """``invoices.csv``, ``invoices.0002.csv``, ``invoices.2024-03.csv``, ``invoices.2024-03.0002.csv``."""
    number = "" if part == 1 else f".{part:04d}"
    return f"{_file_stem(name)}{f'.{period}' if period else ''}{number}.{extension}"


def _file_stem(name: str) -> str:
    """As `segment`, but letters and digits of all scripts stay what they are where no program takes them for others."""
    foreign = [char for char in name if not char.isascii()]
    kept = all(unicodedata.category(char)[0] in "LMN" and reader_key(char) == char for char in foreign)
    if not foreign or not kept or not unicodedata.is_normalized("NFKC", name) or _is_mark(name[0]):
        return segment(name)
    encoded = "".join(char if char in foreign else quote(char, safe=_SAFE) for char in name)
    stem = f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded
    return stem if len(stem.encode()) <= _MAX_SEGMENT else segment(name)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M"


def download_name(name: str, request_id: str, extension: str) -> str:
    """What a person finds in the downloads folder."""
    return f"{download_folder(name, request_id)}.{extension}"


def download_folder(name: str, request_id: str) -> str:
    """The folder inside an archive that is made for a download."""
    return f"{slug(name)}-{request_id[:8]}"
