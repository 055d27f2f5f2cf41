"""Rules about how the files of an export are compressed, split and encrypted: user input, like all of planning."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable

from pydantic import SecretStr

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.configuration import MANY_FILES, Encryption, SplitFiles
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.measures import TIMES, Figures
from export_pipelines.core.model import Sealing, Split, TableSelection
from export_pipelines.core.ports import FormatSpec
from export_pipelines.core.suggestions import did_you_mean
from export_pipelines.core.windows import Period

NO_COMPRESSION, ARCHIVE = "none", "zip"
BYTES_OF_MB = 1_000_000  # as download folders count
MIN_SIZE_MB, MAX_SIZE_MB = 0.01, 1_000_000.0
MIN_PASSWORD, MAX_PASSWORD = 12, 99  # 99: the most that 7-Zip takes
_RECIPIENT = re.compile(r"age1[0-9a-z]{20,}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( .*)?")


def choose_compression(wanted: str, spec: FormatSpec, codecs: Collection[str]) -> str:
    """``none``, a codec for each file, or ``zip`` for one archive."""
    choices = (NO_COMPRESSION, *codecs, ARCHIVE)
    if wanted not in choices:
        raise RequestRejected(
            f"{wanted!r} is not a compression; choose from {', '.join(choices)}{did_you_mean(wanted, choices)}",
            field="compression",
        )
    if wanted in codecs and not spec.compressible:
        raise RequestRejected(
            f"{spec.name} files are compressed already; use {NO_COMPRESSION}, or {ARCHIVE} for one archive",
            field="compression",
        )
    return wanted


# Split --------------------------------------------------------------------------------------------------------------


def split_of(wanted: SplitFiles | None, selections: Iterable[TableSelection], catalog: Catalog) -> Split:
    """The limits that hold; none when nothing is split."""
    if wanted is None or not wanted.enabled:
        return Split()
    if wanted.split_by is None and wanted.max_size_mb is None:
        raise RequestRejected("is enabled; say split_by month, week or size, or max_size_mb", field="split_files")
    if wanted.split_by == "size" and wanted.max_size_mb is None:
        raise RequestRejected("is needed to split by size", field="split_files.max_size_mb")
    period = None if wanted.split_by in (None, "size") else Period(wanted.split_by)
    if period is not None:
        _require_times(period, tuple(selections), catalog)
    return Split(period=period, max_bytes=_max_bytes(wanted.max_size_mb), many_files=wanted.many_files)


def require_few_files(split: Split, files: int, *, about: str = "") -> None:
    """`RequestRejected` for a split into more files than `MANY_FILES` that was not confirmed.

    ``about`` is said before their number: "about " or "at least ".
    """
    if files <= MANY_FILES or split.many_files or split == Split():
        return
    larger = "a larger size" if split.period is None else "months" if split.period is Period.WEEK else "a larger period"
    raise RequestRejected(
        f"would make {about}{files:,} files, more than {MANY_FILES:,}; choose {larger} or a shorter date range, or "
        'confirm them with "many_files": true (--many-files)',
        field="split_files",
    )


def _max_bytes(size_mb: float | None) -> int | None:
    if size_mb is None:
        return None
    if not math.isfinite(size_mb) or not MIN_SIZE_MB <= size_mb <= MAX_SIZE_MB:
        raise RequestRejected(
            f"{size_mb:g} is outside {MIN_SIZE_MB:g} to {MAX_SIZE_MB:,.0f}; give the megabytes of a finished file",
            field="split_files.max_size_mb",
        )
    return int(size_mb * BYTES_OF_MB)


def _require_times(period: Period, selections: tuple[TableSelection, ...], catalog: Catalog) -> None:
    for selection in selections:
        name = _time_column(catalog.shape(selection.table, selection.aggregation))
        if name is not None and name not in selection.columns:
            raise RequestRejected(
                f"{period} needs {selection.table}.{name}, which fields leaves out; add it, or split by size",
                field="split_files.split_by",
            )
    if not any(_time_column(catalog.shape(selection.table, selection.aggregation)) for selection in selections):
        raise RequestRejected(
            f"{period} is not possible: none of these tables has a time column; split by size",
            field="split_files.split_by",
        )


def _time_column(table: Table | Figures) -> str | None:
    """The column that says when a row was; None where the catalog names none, or keeps its values back."""
    column = table.columns[table.time_column] if table.time_column else None
    if column is None or column.exclude or column.mask or column.travels_as.kind not in TIMES:
        return None
    return table.time_column


def period_column(selection_columns: Collection[str], table: Table | Figures) -> str | None:
    """The column by which the rows of a table are split into periods; None for a table that stays whole."""
    name = _time_column(table)
    return name if name in selection_columns else None


# Encryption ---------------------------------------------------------------------------------------------------------


def sealing_of(wanted: Encryption | None) -> Sealing | None:
    """How to encrypt; whether the password opens what it should is for whoever holds it."""
    if wanted is None or not wanted.enabled:
        return None
    if wanted.method is None:
        raise RequestRejected("is needed; choose AES256 or age", field="encryption.method")
    if wanted.method == "AES256" and wanted.recipients:
        raise RequestRejected("go with age; AES256 takes a password", field="encryption.recipients")
    if wanted.recipients and wanted.password is not None:
        raise RequestRejected("and recipients exclude each other; give one of them", field="encryption.password")
    if not wanted.recipients and wanted.password is None:
        either = "; or give recipients" if wanted.method == "age" else ""
        raise RequestRejected(f"is needed{either}", field="encryption.password")
    if isinstance(wanted.password, SecretStr):
        check_password(wanted.password.get_secret_value())
    for recipient in wanted.recipients:
        if not _RECIPIENT.fullmatch(recipient):
            raise RequestRejected(
                "must be public keys that begin with age1, ssh-ed25519 or ssh-rsa", field="encryption.recipients"
            )
    return Sealing(method=wanted.method, recipients=wanted.recipients, hide_names=wanted.hide_names)


def check_password(password: str) -> None:
    """Long enough, and of characters that every program turns into the same bytes."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        problem = "is empty" if not password else f"has {len(password)} characters"
        raise RequestRejected(
            f"{problem}; use {MIN_PASSWORD} to {MAX_PASSWORD}, best from a password manager",
            field="encryption.password",
        )
    if not all(" " <= char <= "~" for char in password):
        raise RequestRejected(
            "has characters that unpacking programs read differently; use ASCII letters, digits, signs and blanks",
            field="encryption.password",
        )
