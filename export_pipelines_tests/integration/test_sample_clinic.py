"""What the clinic sample alone has, and how samples are loaded; what all have is in `conformance/test_samples.py`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import yaml
from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.samples.loader import load_sample, sample_catalog_path

ROWS = 6_000
UNTIL = dt.date(2025, 3, 15)
FIRST_CLINIC = "00000000-0000-4000-8000-000000000001"

CATALOG = Catalog.model_validate(yaml.safe_load(sample_catalog_path("clinic").read_text(encoding="utf-8")))
CANARY = CATALOG.canary
assert CANARY is not None
TABLES = list(CATALOG.tables)
RELATIONS = [(table, name) for table in TABLES for name in CATALOG.tables[table].relations]

HOSTILE = [
    "",
    "  spaces on both sides  ",
    "first line\nsecond line",
    "Windows line\r\nends here\r\n",
    "carriage\rreturn",
    "tab\tseparated\tvalues",
    "=SUM(A1:A9)",
    "+49 30 901820",
    "-2 kg since the last visit",
    "@owner: please call back",
    "\t=1+1",
    'She said "sit", and it sat',
    "semicolon; comma, pipe | done",
    "C:\\scans\\new\\table.tif",
    "\\N",
    "\\.",
    "NULL",
    "مرحبا بالعالم (قطة) 123",
    "猫は元気です。고양이 แมว बिल्ली კატა ድመት",
    "🐕\u200d🦺 👩🏽\u200d⚕️ 🏴\u200d☠️ 🇺🇳",
    "Zoe\u0308 is written apart, Zo\u00eb in one",
    "\ufeffbegins with a byte order mark",
    "bell \x07 and escape \x1b[31mred",
    "A long history, told at length. " * 300,
]


@pytest.fixture(scope="module")
def clinic(database: Callable[[str], str]) -> str:
    """URL of a database with the sample in it."""
    url = database("clinic")
    load_sample(url, "clinic", rows=ROWS, until=UNTIL)
    return url


@pytest.fixture
def connection(clinic: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(clinic) as opened:
        yield opened


def table_name(table: str) -> sql.Identifier:
    return sql.Identifier(*CATALOG.relation_name(table))


def scalar(connection: psycopg.Connection, query: str | sql.Composed, *values: object) -> object:
    row = connection.execute(query.encode() if isinstance(query, str) else query, values or None).fetchone()
    assert row is not None
    return row[0]


def owner(table: str) -> sql.Composed:
    """A query for (every column of the table, its tenant as ``owner``), by the catalog's tenant path."""
    joins: list[sql.Composable] = []
    last, column = "t0", CATALOG.tables[table].tenant.column
    for depth, (_, relation) in enumerate(CATALOG.tenant_route(table), start=1):
        last, column = f"t{depth}", CATALOG.tables[relation.references].tenant.column
        pairs = zip(relation.referenced_columns, relation.columns, strict=True)
        on = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier(last, there), sql.Identifier(f"t{depth - 1}", here))
            for there, here in pairs
        )
        joins.append(sql.SQL("JOIN {} AS {} ON {}").format(table_name(relation.references), sql.Identifier(last), on))
    return sql.SQL("SELECT t0.*, {} AS owner FROM {} AS t0 {}").format(
        sql.Identifier(last, str(column)), table_name(table), sql.SQL(" ").join(joins)
    )


def ordinary(table: str) -> sql.Composed:
    """The rows of every clinic but the canary."""
    canary = sql.Literal(CANARY.tenant)
    return sql.SQL("SELECT * FROM ({}) AS owned WHERE owner::text <> {}").format(owner(table), canary)


def fingerprints(url: str) -> dict[str, object]:
    """MD5 of every table's rows, in an order of their own."""
    with psycopg.connect(url) as connection:
        query = "SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) FROM {} AS t"
        places = [*map(table_name, TABLES), sql.Identifier("clinic", "login_sessions")]
        return {str(place): scalar(connection, sql.SQL(query).format(place)) for place in places}


def test_every_nested_child_has_one_parent() -> None:
    nested = [table for table, name in RELATIONS if CATALOG.tables[table].relations[name].nest_as]
    assert len(nested) == len(set(nested))
    assert {"pets", "medical_records", "lab_results", "invoice_items", "payments"} <= set(nested)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_awkward_text_is_there_for_the_first_clinic(connection: psycopg.Connection, text: str) -> None:
    query = "SELECT count(*) FROM clinic.medical_records WHERE clinic_id = %s AND notes = %s"
    assert int(str(scalar(connection, query, FIRST_CLINIC, text))) > 0


@pytest.mark.parametrize(
    "condition",
    [
        "clinic.pets WHERE born_on = '1887-03-04'",
        "clinic.clinics WHERE founded_on < '1900-01-01'",
        "clinic.pets WHERE created_at < '2023-01-01'",
        "clinic.pets WHERE allergies IS NULL",
        "clinic.pets WHERE allergies = '{}'",
        "clinic.pets WHERE array_position(allergies, NULL) > 0",
        "clinic.clients WHERE email IS NULL",
        "clinic.clients WHERE email = ''",
        "clinic.clients WHERE balance < 0",
        "clinic.profiles WHERE substring(photo FOR 2) = 'BM'::bytea AND length(photo) = 246",
        "clinic.profiles WHERE family(last_login_ip) = 6",
        "clinic.appointments WHERE starts_at IS NULL",
        "clinic.payments WHERE amount < 0",
        "clinic.payments WHERE terminal_sequence > 9007199254740992",
        "clinic.lab_results WHERE scale(value) > 20",
        "clinic.lab_results WHERE value > 1e28",
        "clinic.prescriptions WHERE every = '1 year 2 mons 3 days 04:05:06.789'",
    ],
)
def test_difficult_values_are_there(connection: psycopg.Connection, condition: str) -> None:
    assert scalar(connection, f"SELECT EXISTS (SELECT FROM {condition})") is True


def test_an_invoice_is_the_sum_of_its_lines(connection: psycopg.Connection) -> None:
    query = """
        SELECT count(*) FROM clinic.invoices AS invoice
        WHERE total <> subtotal + tax
           OR subtotal <> (SELECT sum(line_total) FROM clinic.invoice_items WHERE invoice_id = invoice.id)
    """
    assert scalar(connection, query) == 0


@pytest.mark.parametrize("table", [name for name in TABLES if CATALOG.tables[name].partition_column])
def test_rows_reach_from_the_first_month_to_the_last_day(connection: psycopg.Connection, table: str) -> None:
    query = sql.SQL("SELECT min(created_at), max(created_at) FROM ({}) AS counted").format(ordinary(table))
    row = connection.execute(query).fetchone()
    assert row is not None
    assert row[0] < dt.datetime(2023, 4, 1, tzinfo=dt.UTC)
    assert dt.datetime(2025, 2, 1, tzinfo=dt.UTC) < row[1] < dt.datetime.combine(UNTIL, dt.time(), dt.UTC)


def test_every_month_has_invoices(connection: psycopg.Connection) -> None:
    months = sql.SQL("SELECT count(DISTINCT date_trunc('month', created_at)) FROM ({}) AS counted")
    assert scalar(connection, months.format(ordinary("invoices"))) == 2 * 12 + 3


def test_rows_are_as_many_as_asked_and_the_first_clinic_is_the_largest(connection: psycopg.Connection) -> None:
    counted = [sql.SQL("SELECT count(*) FROM ({}) AS counted").format(ordinary(name)) for name in TABLES]
    per_table = [scalar(connection, query) for query in counted]
    assert sum(int(str(rows)) for rows in per_table) == pytest.approx(ROWS, rel=0.01)
    query = "SELECT clinic_id::text FROM clinic.invoices GROUP BY 1 ORDER BY count(*) DESC"
    assert scalar(connection, query) == FIRST_CLINIC


def test_another_seed_makes_other_rows(clinic: str, database: Callable[[str], str]) -> None:
    other = database("clinic_other")
    load_sample(other, "clinic", rows=ROWS, until=UNTIL, seed=2)
    before, after = fingerprints(clinic), fingerprints(other)
    clinics = str(table_name("clinics"))
    assert before.pop(clinics) == after.pop(clinics)
    assert not before.items() & after.items()


def test_a_second_load_changes_nothing(clinic: str) -> None:
    before = fingerprints(clinic)
    load_sample(clinic, "clinic", rows=500, tenants=5, seed=9)
    assert fingerprints(clinic) == before


def test_two_loads_at_once_make_one_sample(database: Callable[[str], str]) -> None:
    url = database("clinic_race")
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda seed: load_sample(url, "clinic", rows=500, seed=seed), [1, 2]))
    with psycopg.connect(url) as connection:
        assert scalar(connection, "SELECT count(*) FROM clinic.clinics") == 3 + 1


def test_invoices_can_be_asked_for_apart(database: Callable[[str], str]) -> None:
    url = database("clinic_invoices")
    load_sample(url, "clinic", tenants=1, rows=200, invoices=5_000)
    with psycopg.connect(url) as connection:
        assert scalar(connection, "SELECT count(*) FROM clinic.invoices WHERE clinic_id = %s", FIRST_CLINIC) == 5_000
        items = sql.SQL("SELECT count(*) FROM ({}) AS counted").format(ordinary("invoice_items"))
        assert scalar(connection, items) == 60


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenants", 0),
        ("tenants", 10_001),
        ("rows", 0),
        ("rows", 50_000_001),
        ("seed", -1),
        ("invoices", 0),
        ("until", dt.date(2023, 1, 1)),
    ],
)
def test_an_absurd_number_is_refused_by_name(clinic: str, field: str, value: object) -> None:
    with pytest.raises(RequestRejected, match=f"^{field}: "):
        load_sample(clinic, "clinic", **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["zoo", "../clinic", "Clinic", ""])
def test_an_unknown_sample_is_refused_with_the_choices(clinic: str, name: str) -> None:
    with pytest.raises(RequestRejected, match=r"choose from .*clinic"):
        load_sample(clinic, name)


def test_a_server_that_is_down_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        load_sample("postgresql://nobody@127.0.0.1:1/nowhere", "clinic")


def test_a_malformed_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(RequestRejected) as refused:
        load_sample("postgres//user:secret@host", "clinic")
    assert "secret" not in str(refused.value)


def test_a_database_with_a_schema_of_that_name_is_refused_and_left_alone(database: Callable[[str], str]) -> None:
    url = database("clinic_taken")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA clinic")
    with pytest.raises(RequestRejected, match="use an empty one"):
        load_sample(url, "clinic")
    with psycopg.connect(url) as connection:
        assert scalar(connection, "SELECT count(*) FROM pg_class WHERE relnamespace = 'clinic'::regnamespace") == 0
