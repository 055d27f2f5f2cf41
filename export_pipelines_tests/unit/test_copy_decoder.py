"""The decoder by itself: streams written by hand, sound, cut, and damaged."""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Sequence
from decimal import Decimal, localcontext

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from export_pipelines.sources.copy_decoder.columns import DecodedColumn
from export_pipelines.sources.copy_decoder.libpq import availability
from export_pipelines_tests import binary_copy as wire

if availability() is not None:
    pytest.skip(f"no native decoder: {availability()}", allow_module_level=True)

from export_pipelines.sources.copy_decoder._decoder import Decoder, Malformed, Misfit
from export_pipelines.sources.copy_decoder.batches import open_decoder, take_batch
from export_pipelines_tests.lanes import examples

AMOUNT = DecodedColumn(kind="decimal", arrow=pa.decimal128(12, 2))
TEXT = DecodedColumn(kind="bytes", arrow=pa.string())
NUMERIC = DecodedColumn(kind="numeric", arrow=pa.string())
LONG = DecodedColumn(kind="int64", arrow=pa.int64())
BEFORE_1970 = dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
EVERY = (
    DecodedColumn(kind="boolean", arrow=pa.bool_()),
    DecodedColumn(kind="int16", arrow=pa.int16()),
    DecodedColumn(kind="int32", arrow=pa.int32()),
    LONG,
    DecodedColumn(kind="int64", arrow=pa.float64()),
    DecodedColumn(kind="date", arrow=pa.date32()),
    DecodedColumn(kind="timestamp", arrow=pa.timestamp("us", tz="UTC")),
    AMOUNT,
    NUMERIC,
    TEXT,
    DecodedColumn(kind="jsonb", arrow=pa.string()),
    DecodedColumn(kind="uuid", arrow=pa.string()),
    DecodedColumn(kind="array", arrow=pa.string()),
)
ONE_OF_EACH = (
    b"\x01",
    struct.pack(">h", -2),
    struct.pack(">i", 2**31 - 1),
    struct.pack(">q", -(2**63)),
    struct.pack(">d", 0.1),
    wire.date(dt.date(1999, 12, 31)),
    wire.timestamp(BEFORE_1970),
    wire.numeric(Decimal("-1234567890.05")),
    wire.numeric(Decimal("0.00000120")),
    "Zoë 🦉".encode(),
    b'\x01{"a": 1}',
    uuid.UUID(int=2**127 + 5).bytes,
    wire.array(25, [2, 2], [b"a", b'"\x01', None, b""]),
)
READ_BACK = (
    True,
    -2,
    2**31 - 1,
    -(2**63),
    0.1,
    dt.date(1999, 12, 31),
    BEFORE_1970,
    Decimal("-1234567890.05"),
    "0.00000120",
    "Zoë 🦉",
    '{"a": 1}',
    str(uuid.UUID(int=2**127 + 5)),
    r'[["a","\"\u0001"],[null,""]]',
)
NULLS = (None,) * len(EVERY)


def decoded(columns: Sequence[DecodedColumn], *messages: bytes) -> pa.RecordBatch:
    decoder = opened(columns)
    for message in messages:
        decoder.feed(message)
    assert decoder.finished
    batch = take_batch(decoder, columns, [str(i) for i in range(len(columns))])
    batch.validate(full=True)
    return batch


def opened(columns: Sequence[DecodedColumn]) -> Decoder:
    return open_decoder(columns, max_rows=1000, max_bytes=1 << 20)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 100])
@pytest.mark.parametrize("null_at", [None, "first", "last", "every second"])
def test_every_kind_reads_back_with_nulls_anywhere(rows: int, null_at: str | None) -> None:
    empty = {None: set(), "first": {0}, "last": {rows - 1}, "every second": set(range(0, rows, 2))}[null_at]
    messages = [wire.row(*(NULLS if i in empty else ONE_OF_EACH)) for i in range(rows)]
    batch = decoded(EVERY, wire.HEADER + messages[0], *messages[1:], wire.TRAILER)
    read = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    assert read == [NULLS if i in empty else READ_BACK for i in range(rows)]
    assert [column.null_count for column in batch.columns] == [len(empty)] * len(EVERY)


def test_no_rows_are_a_batch_of_no_rows() -> None:
    assert decoded(EVERY, wire.stream()).num_rows == 0


def test_a_header_extension_is_skipped() -> None:
    header = wire.HEADER[:-4] + struct.pack(">I", 3) + b"abc"
    assert decoded([TEXT], header + wire.row(b"x"), wire.TRAILER).column(0).to_pylist() == ["x"]


def test_a_batch_starts_where_the_last_one_ended() -> None:
    decoder = opened([TEXT, LONG])
    decoder.feed(wire.HEADER + wire.row(None, struct.pack(">q", 1)))
    first = take_batch(decoder, [TEXT, LONG], ["a", "b"])
    decoder.feed(wire.row(b"second", None))
    second = take_batch(decoder, [TEXT, LONG], ["a", "b"])
    assert (first.to_pylist(), second.to_pylist()) == ([{"a": None, "b": 1}], [{"a": "second", "b": None}])


@pytest.mark.parametrize(
    ("kind", "value", "extreme"),
    [
        ("date", struct.pack(">i", 2**31 - 1), 2**31 - 1),
        ("date", struct.pack(">i", -(2**31)), -(2**31)),
        ("date", struct.pack(">i", 2**31 - 2), 2**31 - 1),
        ("timestamp", struct.pack(">q", 2**63 - 1), 2**63 - 1),
        ("timestamp", struct.pack(">q", -(2**63)), -(2**63)),
        ("timestamp", struct.pack(">q", 2**63 - 2), 2**63 - 1),
    ],
)
def test_infinity_and_what_overflows_become_the_ends_of_the_range(kind: str, value: bytes, extreme: int) -> None:
    arrow = pa.int32() if kind == "date" else pa.int64()
    batch = decoded([DecodedColumn(kind=kind, arrow=arrow)], wire.stream(wire.row(value)))
    assert batch.column(0).to_pylist() == [extreme]


finite = st.decimals(allow_nan=False, allow_infinity=False, places=None, min_value=-(10**60), max_value=10**60)


@st.composite
def decimals_that_fit(draw: st.DrawFn) -> tuple[int, int, Decimal]:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    unscaled = draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    with localcontext(prec=80):
        return precision, scale, Decimal(unscaled).scaleb(-scale)


@given(decimals_that_fit())
@example((38, 0, Decimal(10**38 - 1)))
@example((38, 38, Decimal(f"-0.{'9' * 38}")))
@example((38, 1, Decimal(f"{'9' * 37}.9")))
@example((18, 0, Decimal(10**18 - 1)))
@example((20, 20, Decimal("0E-20")))
def test_every_decimal_that_fits_is_exact(case: tuple[int, int, Decimal]) -> None:
    precision, scale, value = case
    column = DecodedColumn(kind="decimal", arrow=pa.decimal128(precision, scale))
    assert decoded([column], wire.stream(wire.row(wire.numeric(value)))).column(0).to_pylist() == [value]


@pytest.mark.parametrize(
    ("precision", "scale", "value"),
    [
        (12, 2, "NaN"),
        (12, 2, "Infinity"),
        (12, 2, "-Infinity"),
        (12, 2, "0.001"),
        (12, 2, "1.005"),
        (12, 2, "10000000000"),
        (12, 2, "-10000000000.00"),
        (38, 0, "1e38"),
        (38, 0, "340282366920938463463374607431768211456"),  # 2^128
        (38, 0, "1e60"),
        (38, 38, "1"),
        (1, 0, "10"),
        (5, 0, "0.5"),
        (38, 2, "1e-12"),
    ],
)
def test_a_decimal_that_does_not_fit_is_never_rounded(precision: int, scale: int, value: str) -> None:
    decoder = opened([TEXT, DecodedColumn(kind="decimal", arrow=pa.decimal128(precision, scale))])
    with pytest.raises(Misfit) as found:
        decoder.feed(wire.stream(wire.row(b"", wire.numeric(Decimal(value)))))
    assert found.value.args[1] == 1
    with pytest.raises(RuntimeError, match="failed"):
        decoder.take()


@given(finite)
@example(Decimal(0))
@example(Decimal("0.00"))
@example(Decimal("-0.5"))
@example(Decimal("10000.0001"))
@example(Decimal("1e60"))
@example(Decimal("1e-60"))
def test_a_number_without_bounds_keeps_every_digit(value: Decimal) -> None:
    wanted = f"{value:f}".replace("-", "") if value == 0 else f"{value:f}"
    assert decoded([NUMERIC], wire.stream(wire.row(wire.numeric(value)))).column(0).to_pylist() == [wanted]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_words(word: str) -> None:
    assert decoded([NUMERIC], wire.stream(wire.row(wire.numeric(Decimal(word))))).column(0).to_pylist() == [word]


DAMAGED = {
    "no header": b"no copy",
    "another signature": b"PGCOPY\n\xff\r\r\x00" + wire.stream()[11:],
    "a critical flag": wire.HEADER[:11] + struct.pack(">II", 1 << 16, 0),
    "a header longer than all": wire.HEADER[:-4] + struct.pack(">I", 2**31),
    "half a width": wire.HEADER + b"\x00",
    "too few columns": wire.HEADER + wire.row(b"\x01"),
    "too many columns": wire.HEADER + wire.row(*ONE_OF_EACH, b""),
    "a negative width": wire.HEADER + struct.pack(">h", -2),
    "a negative length": wire.HEADER + struct.pack(">hi", len(EVERY), -2),
    "a length beyond the end": wire.HEADER + struct.pack(">hi", len(EVERY), 2**31 - 1),
    "rows after the end": wire.stream() + wire.row(*ONE_OF_EACH),
    "a cut row": wire.HEADER + wire.row(*ONE_OF_EACH)[:-1],
}


@pytest.mark.parametrize("message", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_stream_is_refused(message: bytes) -> None:
    with pytest.raises(Malformed):
        opened(EVERY).feed(message)


WRONG_VALUES = {
    "boolean": [b"", b"\x02", b"\x00\x00"],
    "int16": [b"", b"\x00", b"\x00" * 4],
    "int32": [b"\x00" * 3, b"\x00" * 8],
    "int64": [b"\x00" * 7, b"\x00" * 4],
    "date": [b"\x00" * 8],
    "timestamp": [b"\x00" * 4],
    "jsonb": [b"", b"\x02{}"],
    "uuid": [b"", b"\x00" * 15, b"\x00" * 36],
    "array": [
        b"",
        wire.array(25, [1], [b"a"])[:-1],
        wire.array(25, [2], [b"a"]),
        wire.array(25, [1], [b"a", b"b"]),
        wire.array(25, [], [b"a"]),
        wire.array(25, [0], []),
        wire.array(25, [-1], []),
        wire.array(25, [2**31 - 1] * 6, [b"a"]),
        wire.array(25, [1] * 7, [b"a"]),
        wire.array(23, [1], [b"\x00" * 8]),
        wire.array(16, [1], [b"\x02"]),
        wire.array(2950, [1], [b"\x00" * 15]),
        wire.array(1700, [1], [b"\x00" * 8]),  # elements that are not decoded here
        struct.pack(">iiIii", 1, 0, 25, 1, 1) + struct.pack(">i", -2),
    ],
    "numeric": [
        b"",
        b"\x00" * 7,
        struct.pack(">hhHh", 1, 0, 0, 0),  # a group is missing
        struct.pack(">hhHhh", 1, 0, 0, 0, 10_000),  # a group of five digits
        struct.pack(">hhHhh", 1, 0, 0, 0, -1),
        struct.pack(">hhHh", 0, 0, 0x1234, 0),  # no such sign
        struct.pack(">hhHhh", 1, 0, 0xC000, 0, 1),  # NaN with digits
        struct.pack(">hhHh", 0, 0, 0, 0x4000),  # more places than there can be
        struct.pack(">hhHhhh", 2, 0, 0, 0, 1, 5000),  # digits behind the last that is printed
        struct.pack(">hhHhhh", 2, 0, 0, 2, 1, 1234),
    ],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in WRONG_VALUES for value in WRONG_VALUES[kind]])
def test_a_value_that_is_not_in_its_types_form_is_refused(kind: str, value: bytes) -> None:
    decoder = opened([TEXT, DecodedColumn(kind=kind, arrow=pa.null())])
    with pytest.raises(Malformed) as found:
        decoder.feed(wire.stream(wire.row(b"", value)))
    assert found.value.args[1] == 1


@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=4))
@settings(max_examples=examples(500))
def test_damage_anywhere_is_refused_or_gives_sound_arrays(cut: int, flips: list[tuple[int, int]]) -> None:
    """Never a crash, and never an array that points outside its buffers."""
    message = bytearray(wire.HEADER + wire.row(*ONE_OF_EACH) + wire.row(*NULLS))
    for at, flip in flips:
        message[at % len(message)] ^= flip
    decoder = opened(EVERY)
    try:
        decoder.feed(message[: len(message) - cut % len(message)])
    except (Malformed, Misfit):
        return
    take_batch(decoder, EVERY, [str(i) for i in range(len(EVERY))]).validate()


@given(st.binary(max_size=300))
@settings(max_examples=examples(300))
def test_any_bytes_behind_a_header_are_refused_or_give_sound_arrays(data: bytes) -> None:
    decoder = opened([NUMERIC, AMOUNT])
    try:
        decoder.feed(wire.HEADER + wire.row(data, None))
    except (Malformed, Misfit):
        return
    take_batch(decoder, [NUMERIC, AMOUNT], ["a", "b"]).validate()


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ((), "1 to 32767 columns"),
        ((("int64", 0, 0), ("money", 0, 0)), "no kind money"),
        ((("decimal", 39, 0),), "1 to 38 digits"),
        ((("decimal", 5, 6),), "1 to 38 digits"),
        ((("decimal", 0, 0),), "1 to 38 digits"),
    ],
)
def test_a_decoder_is_not_made_for_columns_it_cannot_decode(
    columns: tuple[tuple[str, int, int], ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Decoder(columns, max_rows=1, max_bytes=1)


def test_a_connection_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="address"):
        opened([TEXT]).receive(0, (1, 1, 1, 1))
