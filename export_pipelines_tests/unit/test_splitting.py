"""Rows put aside, cut by period, and fitted into files: the parts below an export in several files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.windows import UNDATED, Period
from export_pipelines.pipeline.write import fitting, spill
from export_pipelines.pipeline.write.fitting import SizeLimit, fitted
from export_pipelines.pipeline.write.periods import by_period
from export_pipelines.pipeline.write.spill import spilling
from export_pipelines_tests.lanes import examples

# Fitting ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    start: int
    rows: int
    size_bytes: int


class Writer:
    """Writes files whose size a function of their rows tells, only when they are finished."""

    def __init__(self, size_of: Callable[[int, int], float]) -> None:
        self._size_of = size_of
        self.tries = 0

    def __call__(self, start: int, rows: int, _number: int, limit: SizeLimit) -> File:
        self.tries += 1
        size = int(self._size_of(start, rows))
        limit.check(rows, size, finished=True)
        return File(start, rows, size)


def fit(total: int, writer: Writer, limit: int, guess: float = 100.0) -> list[File]:
    return list(fitted(total, writer, limit_bytes=limit, max_rows=None, guess_bytes=guess, what="t"))


@pytest.mark.parametrize("guess", [1.0, 100.0, 5000.0])
@pytest.mark.parametrize("overhead", [0, 3000])
def test_files_are_nearly_full_and_rewriting_is_rare(guess: float, overhead: int) -> None:
    writer = Writer(lambda _start, rows: overhead + 37.5 * rows)
    files = fit(100_000, writer, 100_000, guess)
    assert [file.start for file in files[1:]] == [file.start + file.rows for file in files[:-1]]
    assert sum(file.rows for file in files) == 100_000
    assert all(file.size_bytes <= 100_000 for file in files)
    assert min(file.size_bytes for file in files[:-1]) > 80_000
    assert writer.tries <= len(files) + 4


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.integers(1, 5000), max_size=120), st.integers(1, 4000), st.integers(5000, 20_000))
def test_whatever_rows_weigh_each_is_in_one_file_and_none_is_too_large(
    weights: list[int], guess: int, limit: int
) -> None:
    files = fit(len(weights), Writer(lambda start, rows: sum(weights[start : start + rows])), limit, guess)
    assert all(file.size_bytes <= limit for file in files)
    assert sum(file.rows for file in files) == len(weights)
    assert files


def test_a_row_that_fits_nowhere_is_refused_by_table_and_limit() -> None:
    heavy = Writer(lambda start, rows: 10 * rows + (10_000 if start <= 50 < start + rows else 0))
    with pytest.raises(RequestRejected, match=r"t: one row of it alone makes a file larger than 5\.0 kB"):
        fit(100, heavy, 5000)


def test_a_frame_larger_than_the_limit_is_refused_before_it_loops() -> None:
    with pytest.raises(RequestRejected, match="its frame alone"):
        fit(0, Writer(lambda _start, _rows: 9000), 5000)


def test_a_format_that_holds_so_many_rows_gets_no_more() -> None:
    writer = Writer(lambda _start, rows: rows)
    files = list(fitted(25, writer, limit_bytes=None, max_rows=10, guess_bytes=1, what="t"))
    assert [file.rows for file in files] == [10, 10, 5]


def test_more_files_than_anybody_wants_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MAX_FILES", 3)
    with pytest.raises(RequestRejected, match="more than 3 files; choose a larger size"):
        fit(1000, Writer(lambda _start, rows: 100 * rows), 10_000)


# Periods ------------------------------------------------------------------------------------------------------------

INSTANTS = pa.timestamp("us", tz="UTC")
UTC = dt.UTC
CASES = [
    (dt.datetime(2024, 2, 29, 23, 30, tzinfo=UTC), Period.MONTH, "Europe/Berlin", "2024-03"),
    (dt.datetime(2024, 2, 29, 23, 30, tzinfo=UTC), Period.MONTH, "America/New_York", "2024-02"),
    (dt.datetime(2024, 12, 30, 12, tzinfo=UTC), Period.WEEK, "UTC", "2025-W01"),
    (dt.datetime(2021, 1, 3, 12, tzinfo=UTC), Period.WEEK, "UTC", "2020-W53"),
    (dt.datetime(2024, 3, 31, 22, 30, tzinfo=UTC), Period.WEEK, "Europe/Berlin", "2024-W14"),
    (dt.datetime(1, 1, 2, tzinfo=UTC), Period.MONTH, "UTC", "0001-01"),
    (dt.datetime(9999, 12, 31, 23, tzinfo=UTC), Period.MONTH, "UTC", "9999-12"),
    (None, Period.MONTH, "UTC", "undated"),
]


@pytest.mark.parametrize(("instant", "period", "timezone", "label"), CASES)
def test_a_row_belongs_to_the_period_of_its_time_in_the_catalogs_timezone(
    instant: dt.datetime | None, period: Period, timezone: str, label: str
) -> None:
    batch = pa.record_batch({"at": pa.array([instant], INSTANTS)})
    assert [found for found, _ in by_period(batch, "at", period, timezone)] == [label]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.date32()])
def test_a_time_without_a_zone_is_local_already(kind: pa.DataType) -> None:
    batch = pa.record_batch({"at": pa.array([dt.date(2024, 2, 29)], pa.date32()).cast(kind)})
    assert [label for label, _ in by_period(batch, "at", Period.MONTH, "Pacific/Auckland")] == ["2024-02"]


def test_rows_keep_their_order_inside_a_period() -> None:
    days = [dt.date(2024, 1 + number % 3, 1) if number % 5 else None for number in range(1000)]
    batch = pa.record_batch({"at": pa.array(days, pa.date32()), "n": pa.array(range(1000))})
    found = {label: rows["n"].to_pylist() for label, rows in by_period(batch, "at", Period.MONTH, "UTC")}
    assert sorted(found) == ["2024-01", "2024-02", "2024-03", "undated"]
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(1000))


# Putting aside ------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(30), deadline=None)
@given(
    lengths=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 50)), max_size=20),
    start=st.integers(0, 200),
    rows=st.integers(0, 200),
    held=st.sampled_from([1, 300, 1 << 20]),
)
def test_any_range_of_what_was_put_aside_comes_back(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[tuple[str, int]], start: int, rows: int, held: int
) -> None:
    folder = tmp_path_factory.mktemp("spill")
    expected: dict[str, list[int]] = {"a": [], "b": []}
    before, spill._HELD_BYTES = spill._HELD_BYTES, held
    try:
        with spilling(folder) as aside:
            for number, (name, length) in enumerate(lengths):
                values = [number * 1000 + position for position in range(length)]
                expected[name] += values
                aside.add((name, None), pa.record_batch({"n": pa.array(values, pa.int64())}))
            for name, values in expected.items():
                found = [value for batch in aside.read((name, None), start, rows) for value in batch["n"].to_pylist()]
                assert found == values[start : start + rows]
                assert aside.rows((name, None)) == len(values)
        assert list(folder.iterdir()) == []
    finally:
        spill._HELD_BYTES = before


def test_nothing_of_what_was_put_aside_has_a_name(tmp_path: Path) -> None:
    with spilling(tmp_path) as aside:
        aside.add(("t", None), pa.record_batch({"n": pa.array(range(100_000))}))
        assert list(aside.read(("t", None), 0, 1))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ordinary", "special"),
    [
        (["2024-01-31T23:30:00.000000Z", "2024-02-10T00:00:00.000000Z"], ["infinity", "0044-03-15 00:00:00+00 BC"]),
        (["2024-02-01T00:30:00.000000", "2024-02-10T00:00:00.123000"], ["-infinity", "10000-01-01 00:00:00"]),
        (["2024-02-01", "2024-02-29"], ["infinity", "0044-03-15 BC", "10000-01-01"]),
    ],
)
def test_times_that_travel_as_text_have_their_month_and_those_beyond_the_calendar_none(
    ordinary: list[str], special: list[str]
) -> None:
    batch = pa.record_batch({"t": pa.array([*special, *ordinary, None], pa.string())})
    found = {
        label: rows.column("t").to_pylist() for label, rows in by_period(batch, "t", Period.MONTH, "Europe/Berlin")
    }
    assert found == {"2024-02": ordinary, UNDATED: [*special, None]}
