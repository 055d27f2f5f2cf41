"""Every PostgreSQL type with values that are hard to keep, and what each format claims about it.

The claims come from the formats themselves; `docs/fidelity.md` shows them and `test_type_matrix` proves them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from export_pipelines.core.fidelity import Carriage, Carried
from export_pipelines.core.types import Kind, ValueType, as_text, field_of, kind_of, value_type
from export_pipelines.formats.registry import find_format

SETUP = """
CREATE TYPE mood AS ENUM ('sad', 'so, so', 'it''s "fine"', ' NULL ');
CREATE TYPE place AS (name text, at point, tags text[]);
CREATE DOMAIN percentage AS numeric(5, 2) NOT NULL CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN tags AS text[];
CREATE DOMAIN since AS timestamptz;
CREATE TYPE span AS RANGE (subtype = time);
"""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A format with options, as a column of the table."""

    title: str
    format: str
    options: dict[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant(title="CSV", format="csv"),
    Variant(title="CSV excel", format="csv", options={"csv_profile": "excel"}),
    Variant(title="JSON", format="json"),
    Variant(title="NDJSON", format="ndjson"),
    Variant(title="XLSX", format="xlsx"),
    Variant(title="XLSX exact", format="xlsx", options={"excel_values": "exact"}),
    Variant(title="XML", format="xml"),
    Variant(title="Parquet", format="parquet"),
)


@dataclass(frozen=True, kw_only=True)
class TypeCase:
    """A column type and the text of values for it, as PostgreSQL takes them."""

    type: str  # as declared
    values: tuple[str, ...]
    base: str = ""  # the type that the catalog names, where it is not the declared one
    beyond: str = ""  # what is special about values that need the column to be carried as text
    nullable: bool = True

    @property
    def title(self) -> str:
        return f"{self.type}, {self.beyond}" if self.beyond else self.type

    @property
    def form(self) -> ValueType:
        """How the column travels to the formats."""
        return (as_text if self.beyond else value_type)(self.base or self.type)


_PRINTED = Carriage(Carried.TEXT, "text as PostgreSQL prints it, with the marks of text where it needs some")
_ARRAY = Carriage(Carried.TEXT, "text of a JSON array, with the marks of JSON where it needs some")
_TEXT_TYPES = ("text", "character", "character varying")


def claim(case: TypeCase, variant: Variant) -> Carriage:
    """What the format says of such a column."""
    form = case.form
    if form.pg_type.endswith("[]"):
        embedded = variant.format in ("json", "ndjson")
        return Carriage(Carried.MIXED, "a JSON array; a string where bounds are unusual") if embedded else _ARRAY
    if form.kind is Kind.TEXT and not form.pg_type.startswith(_TEXT_TYPES):
        return _PRINTED
    return find_format(variant.format).carries(field_of("v", form), variant.options)


_C0 = tuple(chr(code) for code in range(1, 32))
_TEXTS = (
    *_C0,
    *(f"a{character}b" for character in _C0),
    *("\x7f", "\x80", "\x85", "\x9f", "\u00a0", "\u2028", "\u2029", "\u200b", "\ufffd", "\ufffe", "\uffff"),
    *("\ufeff", "\ufeffstart", '"', "'", '""', "''", "a\rb", "a\nb", "a\r\nb", "\r\n", "\n\n", " ", " lead", "trail  "),
    *("", "NULL", "null", "\\N", "\\", "NaN", "true", "007", "1e5", "2024-01-31", "_x0041_", "_x000D_", "x" * 40_000),
    *(
        "=1+1",
        "'=1+1",
        "''=1",
        "+1",
        "-x",
        "@x",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "\uff1d1",
        "'text",
        "=cmd|' /C calc'!A0",
    ),
    *("e\u0301", "\u00e9", "\U0001f415\u200d\U0001f9ba", "\U0010ffff", "<a>&amp;</a>", "]]>", "<!--", '{"a":1}', ","),
    '\u00e9,"\n\U0001f600 ' * 150_000,  # more than a megabyte
)
_CONTROL_JSON = "".join(f"\\u{code:04x}" for code in (1, 7, 8, 10, 13, 31, 127))
_JSONB = (
    *('{"a": [1.10, 1e400, 12345678901234567890.12]}', '"x"', "null", "true", "-1.50", "[]", "{}", '{"n": null}', '""'),
    *(f'{{"c": "{_CONTROL_JSON}"}}', '{"a\\"b": "\\\\"}', '"=1+1"', '"\\ud83d\\ude00"', '{"v": {"v": [{"id": 1}]}}'),
    *('"' + "y" * 50_000 + '"', '"\uffff"'),
)
_JSON = (
    *_JSONB,
    *('{"a": 1, "a": 2}', ' { "b" :\t1 }  ', '{"a":\n 1,\r\n "b": 2}', '"\\ud800"', '{"\\udfff": "\\ud800\\ud800"}'),
    *('"\\u0000"', '"\\/"', "1E5", "-0", "-0.0", " null", "  null ", "123456789012345678901234567890", "[1,2 , 3]"),
)

CASES = (
    TypeCase(type="boolean", values=("true", "false")),
    TypeCase(type="smallint", values=("-32768", "0", "32767")),
    TypeCase(type="integer", values=("-2147483648", "0", "2147483647")),
    TypeCase(
        type="bigint",
        values=("-9223372036854775808", "0", "-999999999999999", "9007199254740993", "9223372036854775807"),
    ),
    TypeCase(
        type="real",
        values=("0.1", "-0", "16777216", "3.4028235e38", "1.17549435e-38", "1e-45", "NaN", "Infinity", "-Infinity"),
    ),
    TypeCase(
        type="double precision",
        values=(
            *("0.1", "-0", "0.30000000000000004", "9007199254740993", "1e16", "1e-7", "1.7976931348623157e308"),
            *("2.2250738585072014e-308", "5e-324", "NaN", "Infinity", "-Infinity"),
        ),
    ),
    TypeCase(type="numeric(12,2)", values=("0", "0.10", "-1.00", "9999999999.99", "-9999999999.99")),
    TypeCase(type="numeric(5,0)", values=("0", "-99999", "99999")),
    TypeCase(type="numeric(38,10)", values=("0", "-0.0000000001", "9999999999999999999999999999.9999999999")),
    TypeCase(type="numeric(12,2)", beyond="NaN", values=("NaN", "0.10", "-1.00", "9999999999.99")),
    TypeCase(type="numeric(60,30)", values=("0", "1." + "0" * 29 + "1", "-" + "9" * 30 + ".5", "NaN")),
    TypeCase(type="numeric(5,-2)", values=("0", "1200", "-9999900", "NaN")),
    TypeCase(
        type="numeric",
        values=(
            *("0", "0.10", "-5", "-0.00", "1" + "0" * 200, "0." + "0" * 200 + "10", "7" * 33_000, "NaN"),
            *("Infinity", "-Infinity", "123456789012345", "1234567890123456"),
        ),
    ),
    TypeCase(type="money", values=("0", "-1234.56", "92233720368547758.07")),
    TypeCase(type="text", values=_TEXTS),
    TypeCase(type="character varying(20)", values=("", "trail   ", "\u00e9" * 20, "=1+1", "\x01")),
    TypeCase(type="character(5)", values=("", "a", "ab   ", "\u00e9\u00e9\u00e9\u00e9\u00e9", "=1")),
    TypeCase(type='"char"', values=("a", " ", '"', "=", "\x01", "")),
    TypeCase(type="name", values=("", "pg_class", "a,b", "=1")),
    TypeCase(
        type="bytea", values=("\\x", "\\x" + bytes(range(256)).hex(), "\\x00", "\\x5c78", "\\x" + "00ff" * 30_000)
    ),
    TypeCase(type="date", values=("0001-01-01", "1582-10-10", "1900-02-28", "1900-03-01", "2024-02-29", "9999-12-31")),
    TypeCase(
        type="date",
        beyond="infinite or far",
        values=(
            "infinity",
            "-infinity",
            "4713-01-01 BC",
            "0044-03-15 BC",
            "10000-01-01",
            "5874897-12-31",
            "2024-02-29",
        ),
    ),
    TypeCase(
        type="time", base="time without time zone", values=("00:00", "12:00:00.000001", "23:59:59.999999", "09:30")
    ),
    TypeCase(
        type="time",
        base="time without time zone",
        beyond="24:00",
        values=("24:00", "00:00", "12:00:00.000001", "09:30"),
    ),
    TypeCase(
        type="time with time zone",
        values=("00:00+00", "24:00-15:59:59", "12:00:00.000001+05:30", "23:59:59+15:59:59", "09:30:15-03:30:30"),
    ),
    TypeCase(
        type="timestamp",
        base="timestamp without time zone",
        values=(
            *("0001-01-01 00:00:00", "1899-12-31 23:59:59", "1969-12-31 23:59:59.999999", "2024-01-31 12:00:00"),
            *("2024-01-31 12:00:00.123", "2024-01-31 12:00:00.123456", "9999-12-31 23:59:59.999999"),
        ),
    ),
    TypeCase(type="timestamp(3) without time zone", values=("2024-01-31 12:00:00.1239", "0001-01-01")),
    TypeCase(
        type="timestamp",
        base="timestamp without time zone",
        beyond="infinite or far",
        values=(
            *("infinity", "-infinity", "4713-01-01 00:00:00 BC", "0001-12-31 23:59:59.999999 BC", "10000-01-01"),
            *("294276-12-31 23:59:59.999999", "2024-01-31 12:00:00.123456"),
        ),
    ),
    TypeCase(
        type="timestamptz",
        base="timestamp with time zone",
        values=(
            *("0001-01-01 00:00:00Z", "1899-12-31 23:59:59Z", "2024-03-31 01:30:00+01", "2024-01-31 12:00:00.123456Z"),
            *("2024-06-01 12:00:00 America/New_York", "9999-12-31 23:59:59.999999Z"),
        ),
    ),
    TypeCase(
        type="timestamptz",
        base="timestamp with time zone",
        beyond="infinite or far",
        values=(
            *("infinity", "-infinity", "4713-01-02 00:00:00Z BC", "0001-12-31 23:59:59.999999Z BC"),
            *("10000-01-01 00:00:00Z", "294276-12-31 23:59:59.999999Z", "2024-01-31 12:00:00.123456Z"),
        ),
    ),
    TypeCase(
        type="interval",
        values=("0", "1 year 2 mons -3 days +04:05:06.789", "-00:00:00.000001", "178000000 years", "infinity", "25:00"),
    ),
    TypeCase(type="uuid", values=("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff")),
    TypeCase(type="json", values=_JSON),
    TypeCase(type="jsonb", values=_JSONB),
    TypeCase(type="jsonpath", values=("$", '$."a b"[*]?(@ > 1)', "strict $.a")),
    TypeCase(type="inet", values=("10.0.0.1/8", "0.0.0.0", "::1", "fe80::1/64")),
    TypeCase(type="cidr", values=("10.0.0.0/8", "::/0")),
    TypeCase(type="macaddr", values=("08:00:2b:01:02:03",)),
    TypeCase(type="macaddr8", values=("08:00:2b:ff:fe:01:02:03",)),
    TypeCase(type="bit(4)", values=("0101", "0000")),
    TypeCase(type="bit varying(70)", values=("", "1" * 70, "0")),
    TypeCase(type="point", values=("(0.1,-0)", "(NaN,Infinity)", "(1e-300,1e300)")),
    TypeCase(type="line", values=("{1,-1,0.1}",)),
    TypeCase(type="lseg", values=("[(0,0),(1,0.1)]",)),
    TypeCase(type="box", values=("(1,1),(0,0.1)",)),
    TypeCase(type="path", values=("((0,0),(1,1))", "[(0,0),(1,0.1)]")),
    TypeCase(type="polygon", values=("((0,0),(1,0),(0.1,1))",)),
    TypeCase(type="circle", values=("<(0,0),0.1>",)),
    TypeCase(type="int4range", values=("empty", "[1,10)", "(,)", "(,5)")),
    TypeCase(type="numrange", values=("[0.10,1.0]", "(1e100,]")),
    TypeCase(type="daterange", values=("[2024-01-01,infinity)", "(,0044-03-15 BC)")),
    TypeCase(type="tstzrange", values=('["2024-01-01 00:00:00.000001+00",infinity]', "empty")),
    TypeCase(type="span", values=("[09:30,24:00]",)),
    TypeCase(type="int8multirange", values=("{}", "{[1,3),[9223372036854775806,9223372036854775807)}")),
    TypeCase(type="tsvector", values=("", "'a':1A 'b ''c':2", "'=x':1")),
    TypeCase(type="tsquery", values=("", "'a' & !'b' <2> 'c d'")),
    TypeCase(type="pg_lsn", values=("0/0", "FFFFFFFF/FFFFFFFF")),
    TypeCase(type="oid", values=("0", "4294967295")),
    TypeCase(type="xid8", values=("0", "18446744073709551615")),
    TypeCase(type="pg_snapshot", values=("10:20:10,14,15", "1:1:")),
    TypeCase(
        type="integer[]",
        values=("{}", "{1,NULL,-2147483648}", "{{1,2},{3,NULL}}", "{{{1}}}", "[0:1]={1,2}", "[2:2][-1:0]={{1,2}}"),
    ),
    TypeCase(
        type="text[]", values=("{}", '{a,NULL,"NULL",""}', '{"a\\"b","c\\\\d","e,f","{g}"," h ","\x01"}', "[5:5]={x}")
    ),
    TypeCase(type="boolean[]", values=("{t,f,NULL}", "[0:0]={t}")),
    TypeCase(type="numeric[]", values=("{0.10,NaN,-Infinity,NULL,12345678901234567890.10}", "[0:0]={0.10}")),
    TypeCase(type="double precision[]", values=("{0.1,-0,NaN,Infinity,5e-324}", "[0:0]={0.1}")),
    TypeCase(type="date[]", values=('{infinity,2024-02-29,"0044-03-15 BC",5874897-12-31}', "[0:0]={infinity}")),
    TypeCase(
        type="timestamp with time zone[]",
        values=('{infinity,"2024-01-31 12:00:00.123456+00","0044-03-15 00:00:00+00 BC"}', "[0:0]={infinity}"),
    ),
    TypeCase(type="bytea[]", values=('{"\\\\x00ff",NULL,"\\\\x"}', '[0:0]={"\\\\x00"}')),
    TypeCase(type="jsonb[]", values=('{"{\\"a\\": 1}","null",NULL,"\\"x\\"","[1]"}', "[0:0]={1}")),
    TypeCase(
        type="uuid[]",
        values=("{00000000-0000-0000-0000-000000000000,NULL}", "[0:0]={00000000-0000-0000-0000-000000000000}"),
    ),
    TypeCase(type="mood", values=("sad", "so, so", 'it\'s "fine"', " NULL ")),
    TypeCase(type="mood[]", values=('{sad,NULL,"so, so"," NULL "}', "[0:0]={sad}")),
    TypeCase(type="percentage", base="numeric(5,2)", values=("0", "99.99"), nullable=False),
    TypeCase(type="tags", base="text[]", values=("{}", "{a,NULL}", "[0:0]={a}")),
    TypeCase(
        type="since", base="timestamp with time zone", beyond="infinite", values=("infinity", "2024-01-31 12:00Z")
    ),
    TypeCase(type="place", values=('("a, b","(1,2)","{x,\\"y z\\"}")', "(,,)", '("",,{})')),
    TypeCase(type="place[]", values=('{"(a,\\"(1,2)\\",{x})",NULL,"(,,)"}', "[0:0]={NULL}")),
)
CLAIMS = [(case, variant) for case in CASES for variant in VARIANTS]


def kind_name(case: TypeCase) -> str:
    """The kind that the formats see."""
    return kind_of(field_of("v", case.form)).value
