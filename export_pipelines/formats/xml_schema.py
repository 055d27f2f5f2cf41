"""The W3C XML Schema of a table's XML file, for packages.

The lexical forms named here are those that `export_pipelines.formats.xml` writes.
"""

from __future__ import annotations

import pyarrow as pa

from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.xml_names import element_name

_TYPES: dict[Kind, str] = {
    Kind.BOOLEAN: "xs:boolean",
    Kind.NUMERIC: "numeric",
    Kind.TEXT: "text",
    Kind.JSON: "text",
    Kind.DATE: "xs:date",
    Kind.TIME: "xs:time",
    Kind.TIMESTAMP: "xs:dateTime",
    Kind.INSTANT: "xs:dateTime",
    Kind.BYTES: "xs:hexBinary",
}
_WIDTHS: dict[pa.DataType, str] = {
    pa.int16(): "xs:short",
    pa.int32(): "xs:int",
    pa.int64(): "xs:long",
    pa.float32(): "xs:float",
    pa.float64(): "xs:double",
}
_SURE_DIGITS = 18  # of xs:decimal: all that a processor must know (XML Schema part 2, 3.2.3); libxml2 stops at 24
_DEFINITIONS = """\
  <xs:complexType name="text">
    <xs:annotation><xs:documentation>A value with characters that XML cannot hold is the Base64 of its UTF-8.\
</xs:documentation></xs:annotation>
    <xs:simpleContent>
      <xs:extension base="xs:string"><xs:attribute name="encoding" type="xs:string" fixed="base64"/></xs:extension>
    </xs:simpleContent>
  </xs:complexType>
  <xs:simpleType name="numeric">
    <xs:restriction base="xs:string"><xs:pattern value="-?[0-9]+(\\.[0-9]+)?|NaN|-?Infinity"/></xs:restriction>
  </xs:simpleType>
"""


def xsd(head: TableHead) -> bytes:
    """The schema document; it has no target namespace, like the file."""
    columns = "".join(_column(field) for field in head.schema)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">\n'
        f'  <xs:element name="{element_name(head.name)}">\n'
        "    <xs:complexType><xs:sequence>\n"
        '      <xs:element name="row" minOccurs="0" maxOccurs="unbounded">\n'
        "        <xs:complexType><xs:sequence>\n"
        f"{columns}"
        "        </xs:sequence></xs:complexType>\n"
        "      </xs:element>\n"
        "    </xs:sequence></xs:complexType>\n"
        f"  </xs:element>\n{_DEFINITIONS}</xs:schema>\n"
    ).encode()


def _column(field: pa.Field) -> str:
    name, nillable = element_name(field.name), ' nillable="true"' if field.nullable else ""
    if kind_of(field) is not Kind.DECIMAL:
        type_name = _TYPES.get(kind_of(field)) or _WIDTHS[field.type]
        return f'          <xs:element name="{name}" type="{type_name}"{nillable}/>\n'
    base, precision, scale = "xs:decimal", field.type.precision, field.type.scale
    facets = f'<xs:totalDigits value="{precision}"/><xs:fractionDigits value="{scale}"/>'
    if precision > _SURE_DIGITS:
        fraction = rf"\.[0-9]{{{scale}}}" if scale else ""
        base, facets = "xs:string", f'<xs:pattern value="-?[0-9]{{1,{max(1, precision - scale)}}}{fraction}"/>'
    restriction = f'<xs:restriction base="{base}">{facets}</xs:restriction>'
    return f'          <xs:element name="{name}"{nillable}><xs:simpleType>{restriction}</xs:simpleType></xs:element>\n'
