"""Filters and figures on a real database, compared with plain Python over the unfiltered rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from export_pipelines.catalog.attestation import attest_session
from export_pipelines.catalog.check import check
from export_pipelines.catalog.load import load_catalog
from export_pipelines.catalog.unknown import find_unknown
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.measures import Aggregation
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.core.selecting import selections_of
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.pipeline.assembly import open_source
from export_pipelines.samples.loader import load_sample, sample_catalog_path
from export_pipelines.sources import figures, relation
from export_pipelines.sources.postgres import PostgresSnapshot, PostgresSource
from export_pipelines_tests.lanes import examples
from export_pipelines_tests.workshop import TENANTS, ClinicSource, login_url

Rows = list[dict[str, Any]]
FRAGMENTS = [
    "'; DROP TABLE clinic.pets; --",
    "' OR '1'='1",
    "\\' OR TRUE --",
    '{},NULL,"',
    "%s %(x)s {} {0}",
    "$1 $$ $tag$",
    '"; SELECT 1; --',
    "a\nb\tc\x01",
    "*/ OR TRUE /*",
    "NULL",
    "",
]
ANNA = TenantScope(tenant_id=TENANTS[0])


@dataclass(frozen=True)
class Reading:
    """One tenant's rows as the product reads them, in one snapshot."""

    catalog: Catalog
    snapshot: PostgresSnapshot
    url: str

    def selection(self, source: dict[str, Any]) -> TableSelection:
        config = parse_configuration({"data_sources": [source], "format": "csv"})
        (found,) = selections_of(config, self.catalog, role=None).selections
        return found

    def table(self, selection: TableSelection) -> pa.Table:
        shape = self.catalog.shape(selection.table, selection.aggregation)
        return pa.Table.from_batches(self.snapshot.read(selection), schema=shape.arrow_schema(selection.columns))

    def rows(self, source: dict[str, Any]) -> list[dict[str, Any]]:
        selection = self.selection(source)
        read = self.table(selection)
        assert self.snapshot.aggregate(selection).rows == read.num_rows == self.snapshot.count_by_policy(selection)
        rows: list[dict[str, Any]] = read.to_pylist()
        return rows


@contextmanager
def reading_from(url: str, catalog: Catalog) -> Iterator[Reading]:
    with open_source(url, catalog).snapshot(ANNA) as snapshot:
        yield Reading(catalog, snapshot, url)


@pytest.fixture(scope="module")
def reading(clinic: ClinicSource) -> Iterator[Reading]:
    with reading_from(clinic.url, load_catalog(sample_catalog_path("clinic"))) as found:
        yield found


# Filters ------------------------------------------------------------------------------------------------------------

FILTERED = {  # by how a value of the exported rows is written in a request
    "pets": ["id", "client_id", "name", "species", "breed", "sex", "born_on", "weight_kg", "neutered", "created_at"],
    "invoices": ["number", "status", "currency", "total", "insured", "issued_on", "due_on", "created_at"],
    "lab_results": ["test_code", "value", "reference_low", "abnormal", "unit", "medical_record_id"],
    "medical_records": ["local_time", "temperature_celsius", "vet_id", "confidential"],
}


@pytest.fixture(scope="module")
def whole(reading: Reading) -> dict[str, Rows]:
    return {name: reading.rows({"type": name, "filters": {"include_deleted": True}}) for name in FILTERED}


def as_request(value: Any) -> Any:
    """A value of a row as JSON would hold it."""
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | float) else value


@settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_filter_gives_the_rows_that_python_finds(
    reading: Reading, whole: dict[str, Rows], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(FILTERED)))
    rows = whole[name]
    columns = data.draw(st.lists(st.sampled_from(FILTERED[name]), min_size=1, max_size=2, unique=True))
    filters: dict[str, Any] = {"include_deleted": data.draw(st.booleans())}
    expected = [row for row in rows if filters["include_deleted"] or row.get("deleted_at") is None]
    for column in columns:
        chosen = data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=5))
        wanted = [as_request(row[column]) for row in chosen]
        if reading.catalog.tables[name].columns[column].type == "text":
            wanted.append(data.draw(st.sampled_from(FRAGMENTS)))
        filters[data.draw(st.sampled_from([column, f"{column}s"]))] = wanted
        expected = [row for row in expected if as_request(row[column]) in wanted]
    found = reading.rows({"type": name, "filters": filters})
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_piece_of_sql_is_a_text_like_any_other(reading: Reading, clinic: ClinicSource, fragment: str) -> None:
    everywhere = {"type": "clients", "filters": {"city": fragment, "notes": [fragment, None], "country": fragment}}
    assert reading.rows(everywhere) == []
    for column in ("id", "birth_date", "newsletter", "balance", "created_at"):
        with pytest.raises(RequestRejected, match=rf"^filters\.{column}: clients\.{column} is "):
            reading.selection({"type": "clients", "filters": {column: fragment}})
    with psycopg.connect(clinic.admin_url) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM clinic.pets").fetchone() == (True,)


def test_a_text_with_pieces_of_sql_in_it_is_found(reading: Reading, whole: dict[str, Rows]) -> None:
    odd = {row["name"] for row in whole["pets"] if set(row["name"]) & set("'\"\\{},")}
    assert odd, "the sample has names with quotes"
    found = reading.rows({"type": "pets", "filters": {"names": sorted(odd), "include_deleted": True}})
    assert {row["name"] for row in found} == odd


def test_a_number_is_not_rounded_to_its_column(reading: Reading, whole: dict[str, Rows]) -> None:
    total = whole["invoices"][0]["total"]

    def count(wanted: str) -> int:
        return len(reading.rows({"type": "invoices", "filters": {"include_deleted": True, "total": wanted}}))

    assert count(f"{total}00") == count(str(total)) > 0
    assert count(f"{total}01") == 0


@pytest.mark.parametrize("ask", [PostgresSnapshot.guess, PostgresSnapshot.aggregate])
def test_a_word_that_is_no_value_of_an_enum_is_refused_before_rows_are_read(
    reading: Reading, ask: Callable[[PostgresSnapshot, TableSelection], object]
) -> None:
    ask(reading.snapshot, reading.selection({"type": "pets", "filters": {"species": ["dog", "cat", None]}}))
    wrong = reading.selection({"type": "pets", "filters": {"species": ["dog", "Cat'; --" + "x" * 99]}})
    with pytest.raises(RequestRejected) as refused:
        ask(reading.snapshot, wrong)
    assert str(refused.value) == (
        'filters.species: pets.species: "Cat\'; --xxxxxxxxxxxx…" is none of its values; '
        "choose from dog, cat, rabbit, bird, horse, reptile, other"
    )


def test_another_tenants_id_in_a_filter_gives_nothing(reading: Reading) -> None:
    assert reading.rows({"type": "pets", "filters": {"clinic_ids": list(TENANTS[1:])}}) == []


def test_a_filter_changes_what_the_planner_expects(reading: Reading) -> None:
    whole, one = (
        reading.snapshot.guess(reading.selection({"type": "pets", "filters": filters})).rows
        for filters in ({}, {"id": "00000000-0000-4000-8000-000000000001"})
    )
    assert one <= 1 < whole


# Figures ------------------------------------------------------------------------------------------------------------

BERLIN = ZoneInfo("Europe/Berlin")
AUTUMN, SPRING = dt.date(2024, 10, 27), dt.date(2024, 3, 31)  # the clock is put back at 3:00, forward at 2:00
INVOICE = """
    INSERT INTO clinic.invoices
        (id, clinic_id, number, client_id, currency, subtotal, tax, total, issued_on, created_at, updated_at)
    SELECT gen_random_uuid(), i.clinic_id, 900000 + n, i.client_id, 'EUR', 1, 0, n::numeric / 100, t::date, t, t
    FROM (SELECT * FROM clinic.invoices WHERE clinic_id = %s LIMIT 1) AS i,
         LATERAL (SELECT n, timestamptz '2024-10-26 20:00Z' + n * interval '30 minutes' AS t
                  FROM generate_series(0, 70) AS n
                  UNION ALL
                  SELECT n + 100, timestamptz '2024-03-30 20:00Z' + n * interval '30 minutes'
                  FROM generate_series(0, 70) AS n) AS times
"""


WAITING = """
    UPDATE clinic.appointments SET starts_at = NULL
    WHERE id = (SELECT id FROM clinic.appointments WHERE clinic_id = %s AND deleted_at IS NULL LIMIT 1)
"""


@pytest.fixture(scope="module")
def berlin(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> Iterator[Reading]:
    """The clinic in a zone with summer time, with an invoice each half hour around both changes."""
    admin_url = database("berlin")
    load_sample(admin_url, "clinic", tenants=2, rows=600)
    with psycopg.connect(admin_url) as connection:
        connection.execute(INVOICE, (TENANTS[0],))
        connection.execute(WAITING, (TENANTS[0],))
    catalog = load_catalog(sample_catalog_path("clinic")).model_copy(update={"timezone": str(BERLIN)})
    with reading_from(login_url(postgres, admin_url, catalog.reader_role), catalog) as found:
        yield found


def start_of(at: dt.datetime, aggregation: Aggregation) -> dt.date:
    """The start of the period by the wall clock; an hour's as an instant."""
    local = at.astimezone(BERLIN).date()
    match aggregation:
        case Aggregation.HOURLY:
            return at.replace(minute=0, second=0, microsecond=0)  # Berlin is whole hours from UTC
        case Aggregation.DAILY:
            return local
        case Aggregation.WEEKLY:
            return local - dt.timedelta(days=local.weekday())
        case Aggregation.MONTHLY:
            return local.replace(day=1)


@pytest.mark.parametrize("aggregation", Aggregation)
def test_figures_are_what_python_computes_from_the_rows(berlin: Reading, aggregation: Aggregation) -> None:
    groups: dict[tuple[Any, ...], Rows] = {}
    for row in berlin.rows({"type": "invoices"}):
        key = (start_of(row["created_at"], aggregation), row["status"], row["currency"])
        groups.setdefault(key, []).append(row)
    found = {
        (row["period_start"], row["status"], row["currency"]): row
        for row in berlin.rows({"type": "invoices", "aggregation": aggregation})
    }
    assert found.keys() == groups.keys()
    for key, rows in groups.items():
        totals = [row["total"] for row in rows]
        assert found[key]["invoices"] == len(rows)
        assert found[key]["clients"] == len({row["client_id"] for row in rows})
        assert found[key]["revenue"] == str(sum(totals, Decimal()))  # as exact as the column
        assert found[key]["largest_total"] == max(totals)
        average = sum(map(Fraction, totals), Fraction()) / len(rows)
        assert abs(Fraction(found[key]["average_total"]) - average) <= Fraction(1, 10**16)


@pytest.mark.parametrize(("day", "hours"), [(AUTUMN, 25), (SPRING, 23)])
def test_a_day_has_as_many_hours_as_its_clock_shows(berlin: Reading, day: dt.date, hours: int) -> None:
    window = {"start": day.isoformat(), "end": (day + dt.timedelta(days=1)).isoformat()}
    filters = {"date_range": window, "numbers": list(range(900_000, 900_300))}
    source = {"type": "invoices", "fields": ["invoices"], "filters": filters}
    assert [row["invoices"] for row in berlin.rows({**source, "aggregation": "hourly"})] == [2] * hours
    assert berlin.rows({**source, "aggregation": "daily"}) == [{"period_start": day, "invoices": 2 * hours}]


def test_rows_without_a_time_are_in_figures_too(berlin: Reading) -> None:
    found = berlin.rows({"type": "appointments", "aggregation": "monthly", "fields": ["appointments"]})
    rows = berlin.rows({"type": "appointments"})
    assert sum(row["appointments"] for row in found) == len(rows)
    (waiting,) = [row["appointments"] for row in found if row["period_start"] is None]
    assert waiting == sum(row["starts_at"] is None for row in rows)


def test_figures_come_in_one_order(berlin: Reading) -> None:
    selection = berlin.selection({"type": "invoices", "aggregation": "daily"})
    first = berlin.table(selection)
    assert first.equals(berlin.table(selection))
    keys = first.select(["period_start", "status", "currency"]).to_pylist()
    assert keys == sorted(keys, key=lambda key: tuple(key.values()))


@pytest.mark.parametrize("name", ["average_total", "clients", "largest_total"])
def test_a_measure_that_does_not_add_up_may_be_asked_for_alone(berlin: Reading, name: str) -> None:
    source = {"type": "invoices", "aggregation": "monthly", "fields": ["currency", name]}
    assert berlin.snapshot.aggregate(berlin.selection(source)).rows == len(berlin.rows(source)) > 1


@pytest.mark.parametrize("fields", [None, ["currency", "average_total"]], ids=["all", "only an average"])
def test_groups_that_got_lost_are_found_by_the_totals(
    berlin: Reading, monkeypatch: pytest.MonkeyPatch, fields: list[str] | None
) -> None:
    made = figures.select_figures

    def losing(*given: Any) -> Any:
        return made(*given) + sql.SQL(" HAVING count(*) > 1")

    monkeypatch.setattr(figures, "select_figures", losing)
    monkeypatch.setattr(relation, "select_figures", losing)
    chosen = {"fields": fields} if fields else {}
    selection = berlin.selection({"type": "invoices", "aggregation": "daily", **chosen})
    with pytest.raises(IntegrityViolation, match=r"invoices\.invoices: its figures do not add up"):
        berlin.snapshot.aggregate(selection)


def test_a_row_of_another_tenant_would_be_a_group_of_its_own(
    berlin: Reading, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relation, "tenant_condition", lambda *_: sql.SQL("TRUE"))
    url = postgres.url(berlin.url.rpartition("/")[2])  # of an administrator, whom no policy binds
    loose = berlin.catalog.model_copy(update={"reader_role": "loose"})
    source = PostgresSource(url, loose, check_tables=lambda *_: None, report=attest_session, compare=find_unknown)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE loose BYPASSRLS IN ROLE export_reader")
        connection.execute("CREATE ROLE loose_directory IN ROLE export_reader_directory")
    with source.snapshot(ANNA) as snapshot:
        reading = Reading(loose, snapshot, url)
        selection = reading.selection({"type": "invoices", "aggregation": "monthly"})
        with pytest.raises(IntegrityViolation, match="rows of another tenant"):
            reading.table(selection)


def test_the_check_of_a_catalog_finds_values_that_cannot_be_told_apart(clinic: ClinicSource) -> None:
    raw = load_catalog(sample_catalog_path("clinic")).model_dump(by_alias=True, mode="json")
    with psycopg.connect(clinic.admin_url) as connection, connection.transaction(force_rollback=True):
        connection.execute("CREATE TABLE clinic.places (at timestamptz, place point)")
        raw["tables"]["places"] = {
            "tenant": {"shared": "the same for all"},
            "time_column": "at",
            "columns": {"at": {"type": "timestamptz"}, "place": {"type": "point"}},
            "measures": {"places": {"function": "count_distinct", "column": "place"}},
        }
        findings = [str(finding) for finding in check(connection, Catalog.model_validate(raw))]
    assert [text for text in findings if "cannot tell apart" in text and "places.place" in text]
