"""A package that was opened: what it is, and the rows of its tables."""

from __future__ import annotations

import datetime as dt
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa

from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.model import FilePart
from export_pipelines.core.ports import TableHead
from export_pipelines.core.signing import SignatureVerdict
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.manifest_reading import ReadFile
from export_pipelines.pipeline.verification.content import head_of, parts_of
from export_pipelines.pipeline.verification.data_files import plain_copy, read_part, refusing_crafted
from export_pipelines.pipeline.verification.verify import PackageContent, file_sha256
from export_pipelines.reader.description import Table, describe
from export_pipelines.reader.frames import as_pandas, as_polars

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Package:
    """An export as whoever gets it reads it; made by `export_pipelines.read`.

    Every byte was compared with the manifest when it was opened, and each file is again when its rows are read. An
    archive or a download lies unpacked in a temporary folder until `close`, the end of ``with``, or until nobody holds
    the package any more.
    """

    def __init__(self, content: PackageContent, signature: SignatureVerdict, holding: ExitStack) -> None:
        self._described = describe(content.document)
        self._folder = content.folder
        self._manifest = content.manifest
        self._heads = {table.name: head_of(table) for table in content.manifest.tables}
        self._spec = find_format(content.manifest.format.name)
        self.signature = signature
        self._close = weakref.finalize(self, holding.close)

    @property
    def id(self) -> str:
        """The export's id."""
        return self._described.id

    @property
    def name(self) -> str | None:
        """What whoever ordered it called it."""
        return self._described.name

    @property
    def tenant_id(self) -> str | None:
        """Whose rows it holds."""
        return self._described.tenant_id

    @property
    def export_type(self) -> str | None:
        """``selective``, ``full_backup``, ``migration`` or ``audit``."""
        return self._described.export_type

    @property
    def format(self) -> str:
        """The format of its files."""
        return self._described.format

    @property
    def catalog(self) -> str | None:
        """The catalog of the source."""
        return self._described.catalog

    @property
    def requested_at(self) -> dt.datetime | None:
        """When it was ordered, UTC."""
        return self._described.requested_at

    @property
    def snapshot_at(self) -> dt.datetime | None:
        """Of which moment its rows are, UTC."""
        return self._described.snapshot_at

    @property
    def tables(self) -> Mapping[str, Table]:
        """Its tables by name, in the order of the manifest."""
        return self._described.tables

    @property
    def left_out(self) -> tuple[str, ...]:
        """Which tables are not in it and why, in sentences; each table says the same of its rows and columns."""
        return self._described.left_out

    @property
    def trusted(self) -> bool:
        """Whether one of the ``keys`` signed it; False as well where none were given: ``signature`` says which."""
        return self.signature.trusted

    def batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """The rows of a table some MB at a time, for tables that are larger than memory; files in their order.

        `IntegrityViolation` names the file that is not what the manifest says; what came before is then no table.
        """
        self._head(name)
        return self._rows_of(name)

    def to_arrow(self, name: str) -> pa.Table:
        """A table as Arrow. Each field's metadata has PostgreSQL's type (``pg_type``) and the kind of value."""
        schema = self._head(name).schema
        return pa.Table.from_batches(self.batches(name), schema)

    def to_pandas(self, name: str, *, json: Literal["text", "parsed"] = "text") -> pd.DataFrame:
        """A table as a frame of Arrow-backed columns; ``numeric`` without a scale as ``Decimal``.

        ``json="parsed"`` has Python's objects in place of the text of JSON and arrays, their fractions as ``Decimal``.
        `ImportError` where pandas is not installed.
        """
        return as_pandas(self.to_arrow(name), parse_json=json == "parsed")

    def to_polars(self, name: str) -> pl.DataFrame:
        """A table as a polars frame; JSON, arrays and ``numeric`` without a scale as text."""
        return as_polars(self.to_arrow(name))

    def close(self) -> None:
        """Remove what was unpacked or downloaded; a package in a folder of its own stays as it is."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        tables = ", ".join(f"{table.name} ({table.rows:,})" for table in self.tables.values())
        taken = f" of {self.snapshot_at:%Y-%m-%d %H:%M} UTC" if self.snapshot_at else ""
        return f"<Package {self.name!r}{taken}, rows: {tables}; signature: {self.signature.status}>"

    def _head(self, name: str) -> TableHead:
        if name not in self._heads:
            raise RequestRejected(f"{name!r} is not in this package, which has {', '.join(self._heads)}", field="name")
        return self._heads[name]

    def _rows_of(self, name: str) -> Iterator[pa.RecordBatch]:
        rows, expected = 0, self.tables[name].rows
        with tempfile.TemporaryDirectory(prefix="export-pipelines-read-") as scratch:
            for entry in self._manifest.files:
                parts = [part for part in parts_of(entry, self._heads) if part.table == name]
                if parts:
                    for batch in self._rows_in(entry, parts, Path(scratch)):
                        rows += batch.num_rows
                        yield batch
        if rows != expected:
            raise IntegrityViolation(f"the files of {name} have {rows} rows, the manifest says {expected}")

    def _rows_in(self, entry: ReadFile, parts: list[FilePart], scratch: Path) -> Iterator[pa.RecordBatch]:
        """The rows of one table in one file, which is what it was when the package was opened."""
        if not self._close.alive:
            raise RequestRejected("was closed; open it again to read from it", field="package")
        stored = self._folder / entry.path
        _require_unchanged(stored, entry)
        with refusing_crafted(entry.path), plain_copy(stored, entry.path, scratch) as path:
            for part in parts:
                schema, rows = self._heads[part.table].schema, 0
                for batch in read_part(self._spec, path, self._heads[part.table], part):
                    if batch.schema.names != schema.names:
                        raise IntegrityViolation(
                            f"{entry.path} has other columns of {part.table} than the manifest says"
                        )
                    rows += batch.num_rows
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
                if rows != part.rows:
                    raise IntegrityViolation(
                        f"{entry.path} has {rows} rows of {part.table}, the manifest says {part.rows}"
                    )


def _require_unchanged(stored: Path, entry: ReadFile) -> None:
    try:
        found: Any = (stored.stat().st_size, file_sha256(stored))
    except OSError as error:
        raise IntegrityViolation(f"{entry.path} cannot be read any more: {error.strerror}") from error
    if found != (entry.size_bytes, entry.sha256):
        raise IntegrityViolation(f"{entry.path} was changed since the package was opened; get the package again")
