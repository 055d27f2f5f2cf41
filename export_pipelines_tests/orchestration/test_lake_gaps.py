"""``lake missing`` on a real lake: what it lists is what a backup of a point in time would miss."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable

import pytest
from click.testing import Result
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.core.buckets import bucket_of
from export_pipelines.core.windows import count_periods
from export_pipelines_tests.orchestration.lake import Lake, OpenLake, bucket_partition, partition
from export_pipelines_tests.workshop import TENANTS

OURS = TENANTS[0]

Ask = Callable[..., Result]


@pytest.fixture
def last_month() -> dt.date:
    """Of the test's own time: a run over many tests may begin in one month and end in the next."""
    this_month = dt.datetime.now(dt.UTC).date().replace(day=1)
    return (this_month - dt.timedelta(days=1)).replace(day=1)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    def command(lake: Lake, *words: str, code: int = 0) -> Result:
        settings = lake.workshop.settings
        monkeypatch.setenv("EXPORT_SOURCE_URL", settings.require_source_url())
        monkeypatch.setenv("EXPORT_CONTROL_URL", settings.require_control_url())
        monkeypatch.setenv("EXPORT_HOME", str(settings.home))
        monkeypatch.setenv("EXPORT_CATALOG", str(settings.catalog))
        done = CliRunner().invoke(app, ["lake", "missing", *words])
        assert done.exit_code == code, done.output
        return done

    return command


def test_closed_periods_that_were_never_read_are_missing(open_lake: OpenLake, ask: Ask, last_month: dt.date) -> None:
    lake = open_lake()
    first = lake.catalog.history_start
    lake.materialize("pets", partition(OURS, first.replace(year=first.year + 1)))
    listed = json.loads(ask(lake, "--tenant", OURS, "--table", "pets", "--json").stdout)
    expected = count_periods(first, last_month, lake.catalog.tables["pets"].partition.grain) - 1
    assert listed == [
        {
            "table": "pets",
            "tenant": OURS,
            "partitions": expected,
            "first": str(first),
            "last": str(last_month),
            "partition_owner": OURS,
        }
    ]


def test_the_period_that_goes_on_is_not_missing(open_lake: OpenLake, ask: Ask, last_month: dt.date) -> None:
    lake = open_lake(history_start=last_month)
    lake.materialize("pets", partition(OURS, last_month))
    assert ask(lake, "--tenant", OURS, "--table", "pets").stdout.startswith("nothing is missing")


def test_a_table_without_periods_is_missing_until_it_is_read(open_lake: OpenLake, ask: Ask) -> None:
    lake = open_lake()
    (gap,) = json.loads(ask(lake, "--tenant", OURS, "--table", "products", "--json").stdout)
    assert (gap["partitions"], gap["first"], gap["last"]) == (1, None, None)
    lake.materialize("products", partition(OURS))
    assert json.loads(ask(lake, "--tenant", OURS, "--table", "products", "--json").stdout) == []


def test_buckets_are_named_as_dagster_calls_them(open_lake: OpenLake, ask: Ask, last_month: dt.date) -> None:
    lake = open_lake(history_start=last_month, tenant_buckets=17)
    bucket = bucket_of(OURS, 17)
    gaps = json.loads(ask(lake, "--table", "pets", "--json").stdout)
    assert {gap["tenant"]: gap["partition_owner"] for gap in gaps} == {t: bucket_of(t, 17) for t in TENANTS}
    assert bucket in ask(lake, "--tenant", OURS).stdout
    lake.materialize("pets", bucket_partition(bucket, last_month))
    gaps = json.loads(ask(lake, "--table", "pets", "--json").stdout)
    assert {gap["tenant"] for gap in gaps} == {t for t in TENANTS if bucket_of(t, 17) != bucket}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--tenant", "nobody"), "--tenant: 'nobody' is not among the tenants"),
        (("--table", "pest"), "table 'pest' is not in the catalog; did you mean"),
    ],
)
def test_what_is_not_there_is_refused_by_name(
    open_lake: OpenLake, ask: Ask, words: tuple[str, ...], problem: str
) -> None:
    assert problem in ask(open_lake(), *words, code=2).output
