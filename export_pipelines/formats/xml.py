"""XML: one table a file, in the shape of SQL/XML (ISO/IEC 9075-14) that PostgreSQL's ``table_to_xml`` writes too.

```
<pets xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<row><id>1</id><name>Rex</name><note xsi:nil="true"/><photo>deadbeef</photo></row>
</pets>
```

Values are in the lexical form of their XML Schema type (`export_pipelines.formats.xml_schema`), names are mapped by
`export_pipelines.formats.xml_names`. NULL is ``xsi:nil``, the empty string an empty element. A text with a character
that XML 1.0 cannot hold is written whole as Base64 and says so in the attribute ``encoding``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from export_pipelines.core.columns import positional
from export_pipelines.core.fidelity import Carriage, Carried
from export_pipelines.core.naming import segment
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.rendering import by_position, frame_of, text_of
from export_pipelines.formats.text_buffers import concatenated
from export_pipelines.formats.xml_names import element_name
from export_pipelines.formats.xml_reading import read_xml
from export_pipelines.formats.xml_schema import xsd

_FREE_TEXT = (Kind.TEXT, Kind.JSON)
_MARKUP = r"[&<>\r]"
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}  # a parser would turn a bare CR into LF
_ILLEGAL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x{FFFE}\x{FFFF}]"


class XmlOptions(BaseModel):
    """XML leaves nothing to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class XmlWriter:
    """Writes one table."""

    def __init__(self, sink: BinaryIO, options: Mapping[str, Any]) -> None:
        XmlOptions.model_validate(dict(options))
        self._sink = sink
        self._root = ""
        self._fields: list[tuple[pa.Field, str]] = []  # named by position: any name may be a pattern to polars

    def begin(self, table: TableHead) -> None:
        self._root = element_name(table.name)
        self._fields = list(zip(positional(table.schema), map(element_name, table.schema.names), strict=True))
        opening = f'<{self._root} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
        self._sink.write(f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}'.encode())

    def write(self, batch: pa.RecordBatch) -> None:
        frame = frame_of(by_position(batch))
        facts = frame.select(fact for field, _ in self._fields for fact in _facts(field)).row(0, named=True)
        parts = [part for field, name in self._fields for part in _element(field, name, facts)]
        rows = frame.select(pl.concat_str(pl.lit("<row>"), *parts, pl.lit("</row>\n")).alias("xml")).to_series()
        self._sink.write(concatenated(rows))

    def close(self) -> None:
        self._sink.write(f"</{self._root}>\n".encode())


def _facts(field: pa.Field) -> list[pl.Expr]:
    """What must be known of a batch before its elements can be built."""
    facts = [pl.col(field.name).null_count().alias(f"nulls {field.name}")]
    if kind_of(field) in _FREE_TEXT:
        text = pl.col(field.name).str
        facts.append(text.contains(_MARKUP).any().alias(f"markup {field.name}"))
        facts.append(text.contains(_ILLEGAL).any().alias(f"illegal {field.name}"))
    return facts


def _element(field: pa.Field, name: str, facts: Mapping[str, Any]) -> list[pl.Expr]:
    """The pieces of a column's elements, none of them ever NULL."""
    text = content = _lexical(field)
    if facts.get(f"markup {field.name}"):
        content = text.str.replace_many(_ENTITIES)
    opening = pl.lit(f"<{name}>")
    if facts.get(f"illegal {field.name}"):
        illegal = text.str.contains(_ILLEGAL)
        opening = pl.when(illegal).then(pl.lit(f'<{name} encoding="base64">')).otherwise(opening)
        content = pl.when(illegal).then(text.cast(pl.Binary).bin.encode("base64")).otherwise(content)
    element = [opening, content, pl.lit(f"</{name}>")]
    if facts[f"nulls {field.name}"]:
        return [pl.concat_str(element).fill_null(f'<{name} xsi:nil="true"/>')]
    return element


def _lexical(field: pa.Field) -> pl.Expr:
    """A value as its XML Schema type writes it; differs from the canonical text for infinities and bytes."""
    match kind_of(field):
        case Kind.FLOAT:
            return text_of(field).str.replace("Infinity", "INF", literal=True)
        case Kind.BYTES:
            return pl.col(field.name).bin.encode("hex")
        case _:
            return text_of(field)


_EXACT = Carriage(Carried.EXACT)
_BASE64 = 'one with characters that XML 1.0 cannot hold is Base64 and says `encoding="base64"`'
_CARRIED = {
    Kind.TEXT: Carriage(Carried.ESCAPED, _BASE64),
    Kind.JSON: Carriage(Carried.ESCAPED, f"JSON text; {_BASE64}"),
    Kind.NUMERIC: Carriage(Carried.MIXED, "`xs:decimal`, or `NaN`, `Infinity`, `-Infinity`"),
}


def _carries(field: pa.Field, _options: Mapping[str, Any]) -> Carriage:
    return _CARRIED.get(kind_of(field), _EXACT)


def _describe(head: TableHead) -> tuple[str, bytes]:
    return f"{segment(head.name)}.xsd", xsd(head)


SPEC = FormatSpec(
    name="xml",
    title="XML",
    extension="xml",
    media_type="application/xml",
    open=XmlWriter,
    read=read_xml,
    carries=_carries,
    describe=_describe,
    options=XmlOptions,
    read_ahead=False,
    plain_text=True,
    how_to_open="XML files are meant for programs. A browser or a text editor shows what is in them; to work with the "
    "data in a spreadsheet, ask for the export as an Excel workbook.",
    written_with="polars",
    read_with="lxml, duckdb",
)
