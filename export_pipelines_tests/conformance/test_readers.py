"""Both ways to read rows, held to the same promises against a real server."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from types import FrameType
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from export_pipelines.core.catalog import Column
from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.sources.copy_decoder.columns import DecodedColumn
from export_pipelines.sources.engines import Engine, choose_engine
from export_pipelines.sources.stream import BATCH_BYTES
from export_pipelines_tests.lanes import examples
from export_pipelines_tests.reading import batches, reading, table, typed


@pytest.fixture(scope="module")
def url(database: Callable[[str], str]) -> str:
    return database("readers")


# What PostgreSQL itself prints -------------------------------------------------------------------------------------

PRINTED = {
    "numeric": ["0", "0.00", "-0.5", "1e60", "1e-60", "10000.0001", "NaN", "Infinity", "-Infinity", "9" * 100],
    "numeric(12,2)": ["0", "-1234567890.05", "9999999999.99", "0.01"],
    "numeric(38,0)": ["9" * 38, "-" + "9" * 38, "10000000000000000"],
    "numeric(38,38)": ["0." + "9" * 38, "0"],
    "numeric(40,2)": ["9" * 38 + ".99", "NaN"],
    "numeric(5,-3)": ["12345000"],
    "json": ['{"a": 1,  "a": 2}', '"\\u00fc"', "[]"],
    "jsonb": ['{"b": 1, "a": [1.50, null]}', '"🦉"'],
    "uuid": ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-0123-4567-89AB-CDEF01234567"],
    "text": ["", "\x01\t\r\n", "Zoë 🦉\u2028", "x" * 100_000],
    "character varying(5)": ["", "ab   "],
    "character(5)": ["ab"],
    "inet": ["10.0.0.1/8", "::1"],
    "interval": ["1 year 2 days 00:00:01.000001"],
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "date": ["0001-01-01", "1999-12-31", "2000-01-01", "9999-12-31"],
}


@pytest.mark.parametrize("pg_type", PRINTED)
@pytest.mark.parametrize("as_text", [False, True])
def test_values_arrive_as_postgresql_prints_them(engine: Engine, url: str, pg_type: str, as_text: bool) -> None:
    values = sql.SQL(", ").join(sql.SQL("({})").format(sql.Literal(value)) for value in PRINTED[pg_type])
    rows = f"SELECT v::{pg_type} AS v FROM (VALUES {values.as_string()}, (NULL)) AS given (v)"
    with reading(engine, url) as reader, psycopg.connect(url) as connection:
        read = table(reader, engine, {"v": Column(type=pg_type, as_text=as_text)}, rows).column("v").to_pylist()
        shown = "rpad(v::text, 5)" if pg_type == "character(5)" else "v::text"  # as text it has no blanks at its end
        printed = [text for (text,) in connection.execute(f"SELECT {shown} FROM ({rows}) AS t".encode())]
    assert read == printed or not as_text
    assert [plain(value) for value in read] == [plain(value) for value in printed]


def plain(value: Any) -> str | None:
    """``True`` as ``true`` and 0E-38 with its zeros."""
    return value if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value).lower()


MOVED = '[2:12]={plain,"","NULL",NULL,"a\\"b\\\\c","{x}","a,b"," b","tab\t\v\f\r\n",Zoë🦉,"nUll"}'
ARRAYS = {
    "integer[]": [
        "{}",
        "{1,NULL,-2147483648}",
        "{{1,2},{3,NULL}}",
        "{{{1}}}",
        "[0:1]={5,6}",
        "[-1:0][2:3]={{1,2},{NULL,4}}",
    ],
    "smallint[]": ["{-32768}"],
    "bigint[]": ["{-9223372036854775808,0}"],
    "boolean[]": ["{t,f,NULL}", "[3:5]={t,f,NULL}"],
    "uuid[]": ["{FFFFFFFF-0123-4567-89AB-CDEF01234567}", "[0:0]={FFFFFFFF-0123-4567-89AB-CDEF01234567}"],
    "text[]": ['{"", "NULL", NULL, "a\\"b\\\\c", "\b\f\n\r\t\x01\x1f\x7f/", "Zoë 🦉\u2028"}', MOVED],
    "character varying(3)[]": ["{abc}"],
    "numeric(5,2)[]": ["{1.50,NaN}"],
    "inet[]": ["{::1}"],
}


@pytest.mark.parametrize("pg_type", ARRAYS)
@pytest.mark.parametrize("as_text", [False, True])
def test_arrays_arrive_as_json_or_as_text(engine: Engine, url: str, pg_type: str, as_text: bool) -> None:
    values = sql.SQL(", ").join(sql.SQL("({})").format(sql.Literal(value)) for value in ARRAYS[pg_type])
    rows = f"SELECT v::{pg_type} AS v FROM (VALUES {values.as_string()}, (NULL)) AS given (v)"
    elements = "v::text[]" if pg_type == "inet[]" else "v"  # JSON has nothing for them, so they are their text
    as_json = f"to_json({elements})::text"
    printed = "v::text" if as_text else f"CASE WHEN v::text LIKE '[%' THEN to_json(v::text)::text ELSE {as_json} END"
    with reading(engine, url) as reader, psycopg.connect(url) as connection:
        read = table(reader, engine, {"v": Column(type=pg_type, as_text=as_text)}, rows).column("v").to_pylist()
        assert read == [text for (text,) in connection.execute(f"SELECT {printed} FROM ({rows}) AS t".encode())]


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252"])
def test_text_arrives_as_unicode_whatever_the_database_stores(engine: Engine, postgres: Any, encoding: str) -> None:
    """A server that is not asked to convert sends its own bytes, which Arrow would take for UTF-8."""
    name = f"in_{encoding.lower()}_{engine.name}_{os.getpid()}"
    create = sql.SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0 LOCALE 'C'")
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Literal(encoding)))
    with reading(engine, postgres.url(name)) as reader:
        read = table(reader, engine, typed(v="text"), "SELECT chr(246) || chr(233) AS v")
    assert read.column("v").to_pylist() == ["öé"]


# Both engines give the same ----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
YEARS = ("0001-01-01", "1582-10-15", "1969-12-31", "2000-02-29", "9999-12-31")
CLOCKS = st.times().map(str)
INSTANTS = st.tuples(st.sampled_from(YEARS), CLOCKS).map(" ".join)


def numbers(precision: int, scale: int) -> st.SearchStrategy[str]:
    bound = 10**precision - 1
    return st.integers(-bound, bound).map(lambda unscaled: f"{unscaled}e-{scale}")


def arrays(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.none() | elements, max_size=4)


KINDS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(width=32).map(repr),
    "double precision": st.floats().map(repr),
    "numeric(12,2)": numbers(12, 2),
    "numeric(38,10)": numbers(38, 10),
    "numeric": st.decimals(allow_nan=False).map(str) | st.just("NaN"),
    "text": TEXT,
    "character varying": TEXT,
    "date": st.sampled_from(YEARS) | st.dates().map(str),
    "time without time zone": CLOCKS,
    "timestamp without time zone": INSTANTS,
    "timestamp with time zone": INSTANTS.map(lambda text: f"{text}+00"),
    "bytea": st.binary(max_size=20),
    "json": JSON.map(psycopg.types.json.Json),
    "jsonb": JSON.map(psycopg.types.json.Jsonb),
    "uuid": st.uuids(),
    "boolean[]": arrays(st.booleans()),
    "integer[]": arrays(st.integers(-(2**31), 2**31 - 1)),
    "bigint[]": arrays(st.integers(-(2**63), 2**63 - 1)),
    "uuid[]": arrays(st.uuids()),
    "text[]": arrays(TEXT),
    "numeric[]": arrays(st.decimals(allow_nan=False, allow_infinity=False)),
    "interval": st.timedeltas(),
}
NAMES = {f"c{i}": pg_type for i, pg_type in enumerate(KINDS)}
ROWS = st.lists(st.tuples(*(st.none() | values for values in KINDS.values())), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def pair(url: str) -> Iterator[list[tuple[Engine, Any]]]:
    """A reader of each engine, open for all examples."""
    engines = [choose_engine("native"), choose_engine("adbc")]
    with ExitStack() as stack:
        yield [(engine, stack.enter_context(reading(engine, url))) for engine in engines]


@pytest.fixture(scope="module")
def native(engines_here: dict[str, str | None]) -> None:
    if engines_here["native"] is not None:
        pytest.skip(f"no native decoder: {engines_here['native']}")


@given(rows=ROWS)
@settings(max_examples=examples(60), deadline=None)
def test_both_engines_read_the_same_table(native: None, pair: list[tuple[Engine, Any]], rows: list[Any]) -> None:
    given_rows = [
        "({})".format(", ".join(f"({sql.Literal(v).as_string()})::{t}" for v, t in zip(row, KINDS, strict=True)))
        for row in rows
    ]
    query = f"SELECT * FROM (VALUES {', '.join(given_rows)}) AS given ({', '.join(NAMES)})"
    first, second = (
        comparable(table(reader, engine, {name: Column(type=t) for name, t in NAMES.items()}, query))
        for engine, reader in pair
    )
    first.validate(full=True)
    assert first.equals(second)


def comparable(read: pa.Table) -> pa.Table:
    """Floats as their bits: NaN equals NaN, and zero is not its negative."""
    for i, field in enumerate(read.schema):
        if pa.types.is_floating(field.type):
            bits = pa.int32() if field.type == pa.float32() else pa.int64()
            values = read.column(i)
            chunks = [pa.array([v if v is None else v.as_py() for v in chunk], field.type) for chunk in values.chunks]
            read = read.set_column(i, field.name, pa.chunked_array([chunk.view(bits) for chunk in chunks]))
    return read


# Batches -----------------------------------------------------------------------------------------------------------


def test_batches_are_bounded_in_bytes_whatever_the_rows(engine: Engine, url: str) -> None:
    rows = "SELECT repeat('x', 1000) AS v FROM generate_series(1, 20000)"
    with reading(engine, url) as reader:
        sizes = [batch.nbytes for batch in batches(reader, engine, typed(v="text"), rows)]
    assert sum(sizes) > 20_000_000
    assert max(sizes) < BATCH_BYTES * 1.5


def test_one_huge_value_travels(engine: Engine, url: str) -> None:
    with reading(engine, url) as reader:
        read = table(reader, engine, typed(v="text"), "SELECT repeat('x', 20000000) AS v")
    assert read.column("v").to_pylist() == ["x" * 20_000_000]


@pytest.mark.parametrize("rows", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_no_row_is_lost_or_repeated_between_batches(engine: Engine, url: str, rows: int) -> None:
    series = f"SELECT i::bigint AS i FROM generate_series(1, {rows}) AS i"
    with reading(engine, url) as reader:
        read = table(reader, engine, typed(i="bigint"), series).column("i").to_pylist()
    assert read == list(range(1, rows + 1))


def test_a_reader_reads_one_query_after_another(engine: Engine, url: str) -> None:
    with reading(engine, url) as reader:
        for number in (1, 2, 3):
            read = table(reader, engine, typed(v="integer"), f"SELECT {number} AS v")
            assert read.column("v").to_pylist() == [number]


# What goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["infinity", "-infinity", "10000-01-01", "0001-01-01 BC"])
@pytest.mark.parametrize("pg_type", ["date", "timestamp without time zone", "timestamp with time zone"])
def test_instants_that_no_calendar_holds_are_refused(engine: Engine, url: str, pg_type: str, value: str) -> None:
    with reading(engine, url) as reader, pytest.raises(RequestRejected, match="infinite or outside") as found:
        table(reader, engine, typed(v=pg_type), f"SELECT '{value}'::{pg_type} AS v")
    assert found.value.field == "t.v"


@pytest.mark.parametrize("value", ["NaN", "10000000000", "0.001"])
def test_a_number_that_its_decimal_cannot_hold_is_refused(engine: Engine, url: str, value: str) -> None:
    columns = {"id": Column(type="integer"), "v": Column(type="numeric(12,2)")}
    with reading(engine, url) as reader, pytest.raises(RequestRejected, match="does not fit decimal") as found:
        table(reader, engine, columns, f"SELECT 1 AS id, '{value}'::numeric AS v")
    assert found.value.field == "t.v"


@pytest.mark.parametrize(
    ("said", "sent"),
    [("integer", "1::bigint"), ("integer", "1::real"), ("date", "1::integer"), ("text", "'\\x00'::bytea")],
)
def test_a_type_the_catalog_does_not_know_of_is_refused(engine: Engine, url: str, said: str, sent: str) -> None:
    with reading(engine, url) as reader, pytest.raises(RequestRejected, match="the catalog says"):
        table(reader, engine, typed(v=said), f"SELECT {sent} AS v")


def test_a_stream_that_is_not_what_was_announced_is_no_data(
    native: None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export_pipelines.sources import copy_stream  # not importable where the decoder was not built

    wrong = DecodedColumn(kind="int32", arrow=pa.int32())
    monkeypatch.setattr(copy_stream, "decoded_columns", lambda *_: [wrong])
    engine = choose_engine("native")
    with reading(engine, url) as reader, pytest.raises(IntegrityViolation, match=r"t: .* in column 1"):
        table(reader, engine, typed(v="integer"), "SELECT 1::bigint AS v")


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ("SELECT 1 AS v FROM nowhere", RequestRejected, "nowhere"),
        ("SELECT 1 AS v FROM generate_series(1, 9) WHERE pg_terminate_backend(pg_backend_pid())", Unavailable, "fail"),
    ],
)
def test_errors_of_the_server_say_what_to_do(
    engine: Engine, url: str, rows: str, error: type[Exception], message: str
) -> None:
    with reading(engine, url) as reader, pytest.raises(error, match=message):
        table(reader, engine, typed(v="integer"), rows)


def test_a_value_that_cannot_be_computed_ends_the_stream(engine: Engine, url: str) -> None:
    """In the middle of a stream ADBC hands on no SQLSTATE, so that only the native engine knows it is nobody's turn."""
    rows = "SELECT 1 / (50000 - i) AS v FROM generate_series(1, 90000) AS i"
    error, message = {
        "native": (RequestRejected, "SQLSTATE 22012"),
        "adbc": (Unavailable, "division by zero"),
    }[engine.name]
    with reading(engine, url) as reader, pytest.raises(error, match=message):
        table(reader, engine, typed(v="integer"), rows)


def test_a_server_that_goes_away_in_the_middle_is_unavailable(engine: Engine, url: str) -> None:
    rows = "SELECT i AS v, pg_backend_pid() AS pid, repeat('x', 1000) AS x FROM generate_series(1, 1000000) AS i"
    columns = typed(v="integer", pid="integer", x="text")
    with reading(engine, url) as reader, psycopg.connect(url, autocommit=True) as admin:
        found = batches(reader, engine, columns, rows)
        pid = next(found).column("pid")[0].as_py()
        admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(Unavailable, match="failed while reading"):
            list(found)


def test_who_stops_reading_stops_the_server(engine: Engine, url: str) -> None:
    rows = "SELECT generate_series(1, 100000000) AS i, pg_backend_pid() AS pid, repeat('x', 1000) AS x"
    with psycopg.connect(url, autocommit=True) as admin:
        with reading(engine, url) as reader:
            found = batches(reader, engine, typed(pid="integer", x="text"), rows)
            pid = next(found).column("pid")[0].as_py()
            found.close()
        until(lambda: gone(admin, pid))


class Interrupted(Exception):
    """What the test's signal raises."""


@pytest.mark.parametrize("rows", ["SELECT 1 AS v FROM pg_sleep(60)", f"SELECT generate_series(1, {10**9}) AS v"])
def test_a_signal_is_heard_while_the_server_takes_its_time(native: None, url: str, rows: str) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    engine = choose_engine("native")
    before = signal.signal(signal.SIGUSR1, _interrupt)
    sender = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with psycopg.connect(url, autocommit=True) as admin:
            with reading(engine, url) as reader:
                sender.start()
                started = time.monotonic()
                with pytest.raises(Interrupted):
                    for _ in batches(reader, engine, typed(v="integer"), rows):
                        pass
                assert time.monotonic() - started < 5
            until(lambda: busy(admin) == 0)
    finally:
        sender.cancel()
        signal.signal(signal.SIGUSR1, before)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


def gone(admin: psycopg.Connection[Any], pid: int) -> bool:
    return admin.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone() is None


def busy(admin: psycopg.Connection[Any]) -> int:
    row = admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
        " AND pid <> pg_backend_pid()"
    ).fetchone()
    assert row is not None
    return int(row[0])


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_snapshot_that_is_gone_is_unavailable(engine: Engine, url: str) -> None:
    statements = ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SET TRANSACTION SNAPSHOT '00000003-00000009-1'"]
    with pytest.raises(Unavailable, match="no longer holds the snapshot"):
        engine.open(url, statements)


def test_a_server_that_is_not_there_is_unavailable(engine: Engine) -> None:
    with pytest.raises(Unavailable, match=re.escape("127.0.0.1:1/")):
        engine.open("postgresql://nobody:secret@127.0.0.1:1/none", [])
