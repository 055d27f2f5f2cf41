"""The XML of one worksheet, streamed: frozen bold header, column widths, rows, filter.

Rows arrive ready made from `export_pipelines.formats.xlsx.cells`.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from export_pipelines.archives.zip_stream import ZipEntryStream
from export_pipelines.formats.text_buffers import concatenated
from export_pipelines.formats.xlsx.cells import column_letters, escaped
from export_pipelines.formats.xlsx.parts import HEADER_STYLE

MAX_ROWS = 1_048_576  # of a sheet, its header included
MAX_COLUMNS = 16_384
MAX_XML_BYTES = 2 << 30  # beyond it a sheet is continued: well inside what readers, and a ZIP entry, can hold

_OPENING = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    '<sheetViews><sheetView workbookViewId="0">'
    '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/><selection pane="bottomLeft"/>'
    "</sheetView></sheetViews>"
)


class SheetStream:
    """One sheet being written; its header is written at once."""

    def __init__(self, entry: ZipEntryStream, titles: Sequence[str], widths: Sequence[int]) -> None:
        self._entry = entry
        self._last_column = column_letters(len(titles) - 1)
        self.rows = 1
        columns = "".join(
            f'<col min="{i}" max="{i}" width="{width}" customWidth="1"/>' for i, width in enumerate(widths, 1)
        )
        texts = pl.select(escaped(pl.lit(pl.Series(titles, dtype=pl.String)))).to_series()
        cells = "".join(
            f'<c r="{column_letters(i)}1" s="{HEADER_STYLE}" t="inlineStr">'
            f'<is><t xml:space="preserve">{text}</t></is></c>'
            for i, text in enumerate(texts)
        )
        self._entry.write(f'{_OPENING}<cols>{columns}</cols><sheetData><row r="1">{cells}</row>'.encode())

    @property
    def rows_left(self) -> int:
        """Rows that may still be written here."""
        return 0 if self._entry.size_bytes > MAX_XML_BYTES else MAX_ROWS - self.rows

    @property
    def area(self) -> str:
        """Header and rows as an absolute reference."""
        return f"$A$1:${self._last_column}${self.rows}"

    def write(self, rows: pl.Series) -> None:
        """Append ``<row>`` elements, the first of which has the number `rows` + 1."""
        self._entry.write(concatenated(rows))
        self.rows += len(rows)

    def close(self) -> None:
        area = self.area.replace("$", "")
        ending = f'</sheetData><autoFilter ref="{area}"/>'
        # Text that looks like a number is meant to be text: no green corners.
        ending += f'<ignoredErrors><ignoredError sqref="{area}" numberStoredAsText="1"/></ignoredErrors></worksheet>'
        self._entry.write(ending.encode())
        self._entry.close()
