"""Which rows are not deleted: the database and the lake say the same, and a column that cannot tell is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from export_pipelines.catalog.check import check_drift
from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.sources.query import projected
from export_pipelines.sources.soft_delete import alive_condition, alive_rows

ENDLESS = ["infinity", "-infinity"]
DAYS = ["2024-01-31", "9999-12-31", "1970-01-01"]
FAR = ["0044-03-15 BC", "20000-01-01"]


@pytest.fixture(scope="module")
def scratch(database: Callable[[str], str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database("soft_delete"), autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE TYPE state AS ENUM ('live', 'gone')")
        yield connection


def table_of(pg_type: str, alive_when: Any, **column: Any) -> Table:
    return Table.model_validate(
        {
            "tenant": {"column": "tenant_id"},
            "deleted_column": "mark",
            "alive_when": alive_when,
            "columns": {"tenant_id": {"type": "integer"}, "mark": {"type": pg_type, **column}},
        }
    )


@pytest.mark.parametrize(
    ("pg_type", "alive_when", "values", "alive", "column"),
    [
        ("timestamp with time zone", None, ["2024-01-31 00:00Z", None], [None], {}),
        ("timestamp with time zone", "infinity", [*ENDLESS, *DAYS, *FAR, None], ["infinity", None], {"as_text": True}),
        ("timestamp with time zone", "-infinity", [*ENDLESS, *DAYS, *FAR], ["-infinity"], {"as_text": True}),
        ("timestamp with time zone", "infinity", [*DAYS, None], [None], {}),
        (
            "timestamp with time zone",
            "9999-12-31T01:00:00+01:00",
            [*DAYS, "9999-12-31 00:00:01Z", None],
            ["9999-12-31", None],
            {},
        ),
        (
            "timestamp with time zone",
            "9999-12-31T00:00:00Z",
            [*DAYS, *ENDLESS, "9999-12-31 00:00:00.000001Z"],
            ["9999-12-31"],
            {"as_text": True},
        ),
        ("timestamp without time zone", "1970-01-01", [*DAYS, None], ["1970-01-01", None], {}),
        ("timestamp without time zone", "infinity", [*DAYS, *ENDLESS, *FAR], ["infinity"], {"as_text": True}),
        ("date", "9999-12-31", [*DAYS, None], ["9999-12-31", None], {}),
        ("date", "infinity", [*DAYS, *ENDLESS, *FAR], ["infinity"], {"as_text": True}),
        ("boolean", False, ["true", "false", None], ["false", None], {}),
        ("boolean", False, ["true", "false", None], ["false", None], {"as_text": True}),
        ("boolean", True, ["true", "false"], ["true"], {}),
        ("smallint", 0, ["0", "1", "-1", None], ["0", None], {}),
        ("bigint", "0", ["0", "1", "9223372036854775807"], ["0"], {"as_text": True}),
        ("numeric(10,2)", 0, ["0.00", "0.01", None], ["0.00", None], {}),
        ("numeric(10,2)", "0.005", ["0.00", "0.01", None], [None], {}),
        ("numeric", 0, ["0.000", "-0.0", "1", "NaN", "Infinity"], ["0.000", "-0.0"], {}),
        ("double precision", 0, ["0", "-0", "0.1", "NaN", "infinity"], ["0", "-0"], {}),
        ("double precision", "infinity", ["0", "infinity", "NaN"], ["infinity"], {}),
        ("real", "0.1", ["0.1", "0.100000001", "0.2"], ["0.1", "0.100000001"], {}),
        ("text", "live", ["live", "LIVE", "live ", "gone", "", None], ["live", None], {}),
        ("text", "", ["", " ", None], ["", None], {}),
        ("character varying(9)", "it's", ["it's", "its"], ["it's"], {}),
        ("character(4)", "no  ", ["no", "no ", "yes", None], ["no", "no ", None], {}),
        ("state", "live", ["live", "gone", None], ["live", None], {}),
        (
            "uuid",
            "{00000000-0000-0000-0000-00000000000A}",
            ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"],
            ["00000000-0000-0000-0000-00000000000a"],
            {},
        ),
    ],
)
def test_the_database_and_the_lake_leave_out_the_same_rows(
    scratch: psycopg.Connection[Any],
    pg_type: str,
    alive_when: Any,
    values: list[str | None],
    alive: list[str | None],
    column: dict[str, Any],
) -> None:
    table = table_of(pg_type, alive_when, **column)
    spec, form = table.columns["mark"], table.form_of("mark")
    query = sql.SQL(
        "SELECT position::int, {sent}, {alive} FROM "
        "(SELECT position, value::{type} AS mark FROM unnest({values}::text[]) WITH ORDINALITY AS v(value, position)) "
        "AS t0 ORDER BY position"
    ).format(
        sent=projected("mark", spec, form),
        alive=alive_condition(table),
        type=sql.SQL(pg_type),
        values=sql.Literal(values),
    )
    rows = scratch.execute(query).fetchall()
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([position for position, _, _ in rows]),
            pa.array([value for _, value, _ in rows], pa.string()).cast(form.arrow)
            if form.arrow == pa.decimal128(10, 2)
            else pa.array([value for _, value, _ in rows], form.arrow),
        ],
        names=["position", "mark"],
    )
    expected = [number for number, value in enumerate(values, start=1) if value in alive]
    assert [position for position, _, kept in rows if kept] == expected
    assert alive_rows(batch, table).column("position").to_pylist() == expected


@pytest.mark.parametrize(
    ("pg_type", "alive_when", "problem"),
    [
        ("timestamp with time zone", "9999-12-31", "offset"),
        ("timestamp with time zone", "never", "infinity"),
        ("boolean", 0, "true or false"),
        ("integer", False, "not an integer"),
        ("text", 0, "quotes"),
        ("jsonb", "{}", "cannot be compared"),
        ("bytea", "x", "cannot be compared"),
    ],
)
def test_a_value_that_the_column_cannot_have_is_refused(pg_type: str, alive_when: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        table_of(pg_type, alive_when)


def test_a_column_that_is_never_null_needs_the_value_of_rows_that_are_not_deleted() -> None:
    with pytest.raises(ValueError, match="every row would count as deleted"):
        table_of("date", None, nullable=False)
    assert table_of("date", "infinity", nullable=False).alive_when == "infinity"


@pytest.mark.parametrize(
    ("declared", "alive_when", "expected"),
    [
        ("timestamptz", None, None),
        ("timestamptz NOT NULL", None, "is NOT NULL"),
        ("timestamptz NOT NULL", "infinity", None),
        ("always", None, "is NOT NULL"),  # a domain that is NOT NULL
        ("state NOT NULL", "live", None),
        ("state NOT NULL", "alive", "choose from live, gone"),
    ],
)
def test_a_column_that_cannot_tell_deleted_rows_is_an_error_of_the_source(
    scratch: psycopg.Connection[Any], declared: str, alive_when: str | None, expected: str | None
) -> None:
    scratch.execute("DROP TABLE IF EXISTS marked")
    scratch.execute("DROP DOMAIN IF EXISTS always, sometimes CASCADE")
    scratch.execute("CREATE DOMAIN sometimes AS timestamptz NOT NULL")
    scratch.execute("CREATE DOMAIN always AS sometimes")
    scratch.execute(f"CREATE TABLE marked (tenant_id int, mark {declared})")
    pg_type = "state" if "state" in declared else "timestamp with time zone"
    catalog = Catalog.model_validate(
        {
            "name": "marks",
            "tenant": {"table": "public.marked", "key": "tenant_id", "type": "integer"},
            "tables": {"marked": table_of(pg_type, alive_when).model_dump(exclude_defaults=True)},
        }
    )
    found = [str(finding) for finding in check_drift(scratch, catalog) if finding.level == "error"]
    assert [expected in text for text in found] == [True] if expected else found == []
