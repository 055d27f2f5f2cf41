"""XML: what other parsers and schema validators find in the files."""

# ruff: noqa: DTZ001 - a timestamp without a zone is a type of its own

from __future__ import annotations

import datetime as dt
import math
import subprocess
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import field_of
from export_pipelines.formats import xml
from export_pipelines.formats.xml_names import element_name, original_name
from export_pipelines.formats.xml_schema import xsd

COLUMNS: dict[str, tuple[str, list[Any]]] = {
    "id": ("bigint", [-(2**63), 2**63 - 1]),
    "small": ("smallint", [-(2**15), None]),
    "number": ("integer", [2**31 - 1, None]),
    "price": ("numeric(12,2)", [Decimal("1.50"), None]),
    "digits": ("numeric", ["NaN", "0.10"]),
    "ratio": ("double precision", [math.inf, -math.inf]),
    "share": ("real", [math.nan, 0.1]),
    "paid": ("boolean", [True, False]),
    "day": ("date", [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "clock": ("time", [dt.time(0), dt.time(23, 59, 59, 999999)]),
    "local": ("timestamp", [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    "at": ("timestamptz", [dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC), None]),
    "photo": ("bytea", [b"\xde\xad", b""]),
    "tags": ("jsonb", ['["<&>"]', None]),
    "first name": ("text", ["\x01 cannot be", "  a\r\nb\t "]),
    "row": ("text", ["", None]),
    "Größe_x0041_": ("text", ["]]>", "&#13;"]),
    "犬:xml": ("text", ["\ufffe", "é🐕"]),
}
HEAD = TableHead(
    name="pets & co", schema=pa.schema([field_of(name, pg_type) for name, (pg_type, _) in COLUMNS.items()])
)


def written(path: Path, head: TableHead, columns: Mapping[str, Sequence[Any]]) -> Path:
    with path.open("wb") as sink:
        writer = xml.SPEC.open(sink, {})
        writer.begin(head)
        writer.write(pa.RecordBatch.from_pydict(dict(columns), schema=head.schema))
        writer.close()
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return written(tmp_path / "pets.xml", HEAD, {name: values for name, (_, values) in COLUMNS.items()})


def test_our_reader_returns_every_value(pets: Path) -> None:
    [batch] = xml.SPEC.read(pets, HEAD)
    expected = pa.RecordBatch.from_pydict({name: values for name, (_, values) in COLUMNS.items()}, schema=HEAD.schema)
    assert batch.drop_columns(["share"]).equals(expected.drop_columns(["share"]))
    assert str(batch["share"]) == str(expected["share"])  # NaN equals nothing


def test_another_parser_finds_the_lexical_forms_of_xml_schema(pets: Path) -> None:
    rows = ET.parse(pets).getroot().findall("row")
    assert [rows[0].findtext(name) for name in ("price", "ratio", "paid", "at", "photo", "tags")] == [
        *("1.50", "INF", "true", "2024-01-31T12:00:00.000000Z", "dead", '["<&>"]')
    ]
    assert rows[1].findtext("first_x0020_name") == "  a\r\nb\t "


def test_null_is_nil_and_the_empty_text_is_empty(pets: Path) -> None:
    first, second = (row.find("row") for row in etree.parse(pets).getroot())
    assert (first.text, dict(first.attrib)) == (None, {})
    assert dict(second.attrib) == {"{http://www.w3.org/2001/XMLSchema-instance}nil": "true"}


def test_a_value_that_xml_cannot_hold_says_how_it_is_encoded(pets: Path) -> None:
    cell = etree.parse(pets).getroot()[0].find("first_x0020_name")
    assert (cell.text, dict(cell.attrib)) == ("ASBjYW5ub3QgYmU=", {"encoding": "base64"})


def test_the_file_is_valid_against_its_schema(pets: Path) -> None:
    etree.XMLSchema(etree.fromstring(xsd(HEAD))).assertValid(etree.parse(pets))


def test_xmllint_accepts_file_and_schema(pets: Path, tmp_path: Path) -> None:
    schema = tmp_path / "pets.xsd"
    schema.write_bytes(xsd(HEAD))
    command = ["xmllint", "--noout", "--schema", str(schema), str(pets)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_the_schema_refuses_null_where_the_table_does(tmp_path: Path) -> None:
    nullable, required = (
        TableHead(name="t", schema=pa.schema([field_of("id", "integer", nullable=answer)])) for answer in (True, False)
    )
    document = etree.parse(written(tmp_path / "t.xml", nullable, {"id": [None]}))
    assert etree.XMLSchema(etree.fromstring(xsd(nullable))).validate(document)
    assert not etree.XMLSchema(etree.fromstring(xsd(required))).validate(document)


@pytest.mark.parametrize(
    ("name", "element"),
    [
        ("id", "id"),
        ("first name", "first_x0020_name"),
        ("1st", "_x0031_st"),
        ("-a", "_x002D_a"),
        ("a-b.c", "a-b.c"),
        ("a:b", "a_x003A_b"),
        ("_x0041_", "_x005F_x0041_"),
        ("Xml", "_x0058_ml"),
        ("Größe", "Größe"),
        ("犬", "_x72AC_"),
        ("🐕", "_x01F415_"),
        ("line\nbreak", "line_x000A_break"),
    ],
)
def test_names_follow_the_mapping_of_sql_xml(name: str, element: str) -> None:
    assert element_name(name) == element
    assert original_name(element) == name


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_every_name_becomes_an_element_and_comes_back(name: str) -> None:
    assert etree.fromstring(f"<{element_name(name)}/>").tag == element_name(name)
    assert original_name(element_name(name)) == name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"</row>\n<row>", b"<row>"),
        (b"<id>", b"<key>"),
        (b"pets_x0020_", b"cats_x0020_"),
        (b"\n</pets", b"\n<pets"),
        (b'encoding="base64">A', b'encoding="base64">?'),
    ],
)
def test_a_damaged_file_is_a_violation(pets: Path, old: bytes, new: bytes) -> None:
    pets.write_bytes(pets.read_bytes().replace(old, new))
    with pytest.raises(IntegrityViolation, match=r"pets\.xml.*export again"):
        list(xml.SPEC.read(pets, HEAD))


def test_a_table_called_row_is_read_back(tmp_path: Path) -> None:
    head = TableHead(name="row", schema=pa.schema([field_of("row", "integer")]))
    [batch] = xml.SPEC.read(written(tmp_path / "row.xml", head, {"row": [1, None]}), head)
    assert batch["row"].to_pylist() == [1, None]
