"""Which month or week each row belongs to, by the table's time column in the catalog's timezone."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from export_pipelines.core.windows import UNDATED, Period, period_label

_YEAR = 100  # a key is year * 100 + month or week


def by_period(
    batch: pa.RecordBatch, column: str, period: Period, timezone: str
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of a batch by period, in their order within each.

    Rows without a time, or with one that travels as text because it is infinite or far away, are `UNDATED`.
    """
    keys = _keys(batch.column(column), period, timezone)
    order = pc.array_sort_indices(keys)  # stable
    runs = pc.run_end_encode(keys.take(order))
    sorted_batch = batch if len(runs.values) == 1 else batch.take(order)
    start = 0
    for key, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        label = UNDATED if key is None else period_label(period, *divmod(key, _YEAR))
        yield label, sorted_batch.slice(start, end - start)
        start = end


def _keys(times: pa.Array, period: Period, timezone: str) -> pa.Array:
    # polars brings its own timezones; Arrow needs the system's, which small containers lack.
    series = pl.from_arrow(times)
    assert isinstance(series, pl.Series)
    if series.dtype == pl.String:
        series = _parsed(series, timezone)
    if isinstance(series.dtype, pl.Datetime):
        local = series.dt.convert_time_zone(timezone) if series.dtype.time_zone else series
        series = local.dt.date()
    year, number = (
        (series.dt.year(), series.dt.month()) if period is Period.MONTH else (series.dt.iso_year(), series.dt.week())
    )
    return (year.cast(pl.Int32) * _YEAR + number.cast(pl.Int32)).to_arrow()


def _parsed(texts: pl.Series, timezone: str) -> pl.Series:
    """Local days of times that travel as text; of what is no time of the years 1 to 9999, null."""
    instants = texts.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC", strict=False)
    local = instants.dt.convert_time_zone(timezone).dt.date()
    days = texts.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    ordinary = texts.str.contains(r"^\d{4}-\d\d-\d\d(T[0-9:.]+)?$")
    return local.zip_with(local.is_not_null(), days.zip_with(ordinary, pl.Series([None], dtype=pl.Date)))
