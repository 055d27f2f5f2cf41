"""The parts of a workbook around its sheets (ECMA-376 part 1): relations, styles, properties, sheet names.

Everything is small, built from names only and free of the clock. Rows and cells belong elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

MAX_NAME_UNITS = 31  # UTF-16 code units of a sheet's name
HEADER_STYLE = 1
_CUSTOM_SET = "{D5CDD505-2E9C-101B-9397-08002B2CF9AE}"  # property set of user-defined properties

_DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument"
_FIRST_CUSTOM_FORMAT = 164  # lower ids are Excel's own
_CREATED = "1980-01-01T00:00:00Z"
_FORBIDDEN = re.compile(r"[\[\]:*?/\\\x00-\x1f\ufffe\uffff]")
_RESERVED = "history"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One finished sheet."""

    name: str
    table: str  # whose rows it holds; a name in a workbook may be shortened; empty for long texts
    area: str  # header and data, for example $A$1:$H$20


class SheetNames:
    """Names that Excel accepts, unique whatever their case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def claim(self, wanted: str) -> str:
        """``wanted``, cleaned and shortened; a second one becomes ``wanted (2)``."""
        base = _FORBIDDEN.sub("_", wanted).strip("'") or "sheet"
        base = f"{base}_" if base.lower() == _RESERVED else base
        number, name = 1, _shortened(base, MAX_NAME_UNITS)
        while name.lower() in self._taken:
            number += 1
            suffix = f" ({number})"
            name = _shortened(base, MAX_NAME_UNITS - len(suffix)) + suffix
        self._taken.add(name.lower())
        return name


def _shortened(text: str, units: int) -> str:
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", errors="ignore")


class Styles:
    """Cell styles by number format; 0 is the default and 1 the header's."""

    def __init__(self) -> None:
        self._formats: list[str] = []

    def index(self, format_code: str) -> int:
        if format_code not in self._formats:
            self._formats.append(format_code)
        return HEADER_STYLE + 1 + self._formats.index(format_code)

    def xml(self) -> bytes:
        numbered = list(enumerate(self._formats, _FIRST_CUSTOM_FORMAT))
        codes = "".join(f'<numFmt numFmtId="{i}" formatCode={quoteattr(code)}/>' for i, code in numbered)
        formats = "".join(
            f'<xf numFmtId="{i}" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
            for i, _ in numbered
        )
        font = '<sz val="11"/><name val="Calibri"/><family val="2"/>'
        return _part(
            f'<styleSheet xmlns="{_MAIN}">'
            + (f'<numFmts count="{len(numbered)}">{codes}</numFmts>' if numbered else "")
            + f'<fonts count="2"><font>{font}</font><font><b/>{font}</font></fonts>'
            '<fills count="2"><fill><patternFill patternType="none"/></fill>'
            '<fill><patternFill patternType="gray125"/></fill></fills>'
            '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
            '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
            f'<cellXfs count="{len(numbered) + 2}"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
            f'<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/>{formats}</cellXfs>'
            '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
        )


def opening_parts() -> dict[str, bytes]:
    """What can be written before any sheet is known."""
    relations = (
        (f"{_OFFICE}/relationships/officeDocument", "xl/workbook.xml"),
        (f"{_PACKAGE}/relationships/metadata/core-properties", "docProps/core.xml"),
        (f"{_OFFICE}/relationships/extended-properties", "docProps/app.xml"),
        (f"{_OFFICE}/relationships/custom-properties", "docProps/custom.xml"),
    )
    core = (
        f'<cp:coreProperties xmlns:cp="{_PACKAGE}/metadata/core-properties" '
        'xmlns:dcterms="http://purl.org/dc/terms/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f'<dcterms:created xsi:type="dcterms:W3CDTF">{_CREATED}</dcterms:created>'
        f'<dcterms:modified xsi:type="dcterms:W3CDTF">{_CREATED}</dcterms:modified></cp:coreProperties>'
    )
    app = f'<Properties xmlns="{_OFFICE}/extended-properties"><Application>Export Pipelines</Application></Properties>'
    return {"_rels/.rels": _relations(relations), "docProps/core.xml": _part(core), "docProps/app.xml": _part(app)}


def closing_parts(sheets: Sequence[Sheet], styles: Styles) -> dict[str, bytes]:
    """What names every sheet."""
    relations = [(f"{_OFFICE}/relationships/worksheet", f"worksheets/sheet{i}.xml") for i, _ in enumerate(sheets, 1)]
    relations.append((f"{_OFFICE}/relationships/styles", "styles.xml"))
    return {
        "docProps/custom.xml": _custom(sheets),
        "xl/styles.xml": styles.xml(),
        "xl/workbook.xml": _workbook(sheets),
        "xl/_rels/workbook.xml.rels": _relations(relations),
        "[Content_Types].xml": _content_types(len(sheets)),
    }


def _workbook(sheets: Sequence[Sheet]) -> bytes:
    listed = "".join(
        f'<sheet name={quoteattr(sheet.name)} sheetId="{i}" r:id="rId{i}"/>' for i, sheet in enumerate(sheets, 1)
    )
    areas = "".join(
        f'<definedName name="_xlnm._FilterDatabase" localSheetId="{i}" hidden="1">'
        + escape("'" + sheet.name.replace("'", "''") + "'!" + sheet.area)
        + "</definedName>"
        for i, sheet in enumerate(sheets)
    )
    return _part(
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}/relationships">'
        f"<sheets>{listed}</sheets><definedNames>{areas}</definedNames></workbook>"
    )


def _custom(sheets: Sequence[Sheet]) -> bytes:
    """Which table each sheet holds, for readers that must not guess from a shortened name."""
    properties = "".join(
        f'<property fmtid="{_CUSTOM_SET}" pid="{i + 1}" name="sheet {i}">'
        f"<vt:lpwstr>{escape(sheet.table)}</vt:lpwstr></property>"
        for i, sheet in enumerate(sheets, 1)
    )
    return _part(
        f'<Properties xmlns="{_OFFICE}/custom-properties" xmlns:vt="{_OFFICE}/docPropsVTypes">{properties}</Properties>'
    )


def _content_types(sheets: int) -> bytes:
    parts = {
        "/xl/workbook.xml": f"{_TYPES}.spreadsheetml.sheet.main+xml",
        "/xl/styles.xml": f"{_TYPES}.spreadsheetml.styles+xml",
        "/docProps/core.xml": "application/vnd.openxmlformats-package.core-properties+xml",
        "/docProps/app.xml": f"{_TYPES}.extended-properties+xml",
        "/docProps/custom.xml": f"{_TYPES}.custom-properties+xml",
    } | {f"/xl/worksheets/sheet{i}.xml": f"{_TYPES}.spreadsheetml.worksheet+xml" for i in range(1, sheets + 1)}
    overrides = "".join(f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in parts.items())
    return _part(
        f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
    )


def _relations(targets: Sequence[tuple[str, str]]) -> bytes:
    listed = "".join(
        f'<Relationship Id="rId{i}" Type="{kind}" Target="{target}"/>' for i, (kind, target) in enumerate(targets, 1)
    )
    return _part(f'<Relationships xmlns="{_PACKAGE}/relationships">{listed}</Relationships>')


def _part(xml: str) -> bytes:
    return (_DECLARATION + xml).encode()
