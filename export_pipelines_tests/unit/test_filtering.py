"""Filters by value, modules and figures in a configuration: what they mean with a catalog, and what is refused how."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.access import Role
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import MAX_VALUES, parse_configuration
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.filtering import compared_as
from export_pipelines.core.model import Condition, ExportPlan, TableSelection, TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.destinations.registry import all_destinations
from export_pipelines.formats.registry import all_formats
from export_pipelines.packaging.codecs import CODECS

TYPES = {
    "agent_id": "uuid",
    "status": "text",
    "category": "shop.category",
    "code": "character(3)",
    "small": "smallint",
    "size": "integer",
    "number": "bigint",
    "price": "numeric(12,2)",
    "ratio": "double precision",
    "share": "real",
    "open": "boolean",
    "day": "date",
    "hour": "time",
    "local": "timestamp",
    "at": "timestamptz",
    "tags": "text[]",
    "extra": "jsonb",
    "photo": "bytea",
}
CATALOG = Catalog.model_validate(
    {
        "name": "shop",
        "timezone": "Europe/Berlin",
        "tenant": {"table": "public.tenants"},
        "tables": {
            "orders": {
                "module": "sales",
                "tenant": {"column": "tenant_id"},
                "time_column": "at",
                "columns": {
                    "tenant_id": {"type": "uuid"},
                    **{name: {"type": pg_type} for name, pg_type in TYPES.items()},
                    "card": {"type": "text", "exclude": "payment data"},
                    "note": {"type": "text", "mask": "free text about people"},
                    "email": {"type": "text", "classification": "personal"},
                },
                "dimensions": ["status"],
                "measures": {
                    "orders": {"function": "count"},
                    "turnover": {"function": "sum", "column": "price"},
                    "least": {"function": "min", "column": "price"},
                    "pieces": {"function": "sum", "column": "size"},
                    "mean": {"function": "avg", "column": "size"},
                },
            },
            "days": {
                "module": "sales",
                "roles": ["admin"],
                "tenant": {"column": "tenant_id"},
                "time_column": "day",
                "columns": {"tenant_id": {"type": "uuid"}, "day": {"type": "date"}},
                "measures": {"days": {"function": "count"}},
            },
            "colours": {"tenant": {"shared": "the same for all"}, "columns": {"name": {"type": "text"}}},
        },
    }
)


def plan(raw: Any, role: Role | None = None) -> ExportPlan:
    return plan_export(
        parse_configuration(raw),
        CATALOG,
        request_id="r",
        attempt=1,
        scope=TenantScope(tenant_id="t"),
        requested_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        formats=all_formats(),
        codecs=CODECS,
        destinations=all_destinations(),
        role=role,
    )


def select(source: dict[str, Any]) -> TableSelection:
    (selection,) = plan({"data_sources": [{"type": "orders", **source}], "format": "csv"}).selections
    return selection


def condition(**filters: Any) -> Condition:
    (found,) = select({"filters": filters}).conditions
    return found


def refusal(**filters: Any) -> str:
    with pytest.raises(RequestRejected) as refused:
        select({"filters": filters})
    return str(refused.value)


# Filters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "column"), [("status", "status"), ("agent_ids", "agent_id"), ("categories", "category")]
)
def test_a_filter_names_a_column_or_its_plural(key: str, column: str) -> None:
    value = "0190b6c4-0000-7000-8000-000000000001"
    assert condition(**{key: [value, value]}) == Condition(column=column, values=(value,))


def test_a_plural_in_es_is_one_too() -> None:
    assert condition(statuses="open").column == "status"


def test_null_is_a_value_among_others() -> None:
    assert condition(status=None) == Condition(column="status", values=(), or_null=True)
    assert condition(status=["open", None]) == Condition(column="status", values=("open",), or_null=True)


@pytest.mark.parametrize(
    ("column", "value", "written"),
    [
        ("agent_id", "0190B6C4-0000-7000-8000-00000000000A", "0190b6c4-0000-7000-8000-00000000000a"),
        ("status", " Robert'); DROP TABLE orders;-- ", " Robert'); DROP TABLE orders;-- "),
        ("category", "food", "food"),
        ("small", -32768, "-32768"),
        ("size", " +7 ", "7"),
        ("number", 2**63 - 1, "9223372036854775807"),
        ("price", 12.5, "12.5"),
        ("price", "12.345", "12.345"),
        ("price", "1e3", "1000"),
        ("price", 10**40, "1" + "0" * 40),
        ("ratio", 0.1, "0.1"),
        ("share", "-1.5e-7", "-0.00000015"),
        ("open", True, "true"),
        ("open", "FALSE", "false"),
        ("day", "2024-02-29", "2024-02-29"),
        ("hour", "09:30", "09:30:00"),
        ("local", "2024-03-31T02:30:00", "2024-03-31T02:30:00"),
        ("at", "2024-07-01", "2024-06-30T22:00:00+00:00"),
        ("at", "2024-07-01T00:00:00Z", "2024-07-01T00:00:00+00:00"),
    ],
)
def test_a_value_is_written_as_postgresql_reads_it(column: str, value: object, written: str) -> None:
    assert condition(**{column: value}).values == (written,)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("agent_id", "ws_123", "orders.agent_id is uuid: 'ws_123' is not a UUID"),
        ("agent_id", 7, "7 is not a UUID"),
        ("status", 7, "orders.status is text: 7 is not text; put it in quotes"),
        ("status", "a\0b", "holds NUL"),
        ("status", "\ud800", "half a character"),
        ("small", 2**15, "is outside -32768 to 32767"),
        ("size", "12.5", "'12.5' is not an integer"),
        ("size", True, "true is not an integer"),
        ("size", 1.0, "1.0 is not an integer"),
        ("number", "9" * 50, "is not an integer"),
        ("price", "NaN", "is not a number"),
        ("price", float("nan"), "is not a finite number"),
        ("price", 12345678901234567.89, "put it in quotes"),
        ("price", "1e9999", "has more than 500 digits"),
        ("price", "0e9999", "has more than 500 digits"),
        ("price", "9" * 2000, "has 2,000 characters"),
        ("price", True, "is not a number"),
        ("share", "1e39", "is beyond what such a column can hold"),
        ("share", "1e-60", "is beyond"),
        ("ratio", "1e400", "is beyond"),
        ("open", 1, "1 is not true or false"),
        ("day", "2024-02-30", "is not a date such as"),
        ("day", "0001-01-01", "is outside 0001-01-02"),
        ("hour", "25:00", "is not a time"),
        ("hour", "09:00+01:00", "has a zone"),
        ("local", "2024-03-31T02:30:00Z", "has a zone"),
        ("at", "yesterday", "an instant such as"),
    ],
)
def test_a_value_of_another_type_is_refused_by_column_type_and_problem(
    column: str, value: object, problem: str
) -> None:
    said = refusal(**{column: value})
    kept = "NUL" in said or "finite" in said  # what no table keeps is refused before it is looked at
    assert said.startswith(f"data_sources.0.filters.{column}: " if kept else f"filters.{column}: orders.{column} is ")
    assert problem in said
    assert len(said) < 300


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ({"card": "4711"}, "filters.card: orders.card is kept back, so it cannot be filtered on: payment data"),
        ({"notes": "x"}, "filters.notes: orders.note is kept back, so it cannot be filtered on: free text"),
        ({"tags": "x"}, "orders.tags is text[], which cannot be compared"),
        ({"extra": "x"}, "which cannot be compared"),
        ({"photo": "x"}, "which cannot be compared"),
        ({"workspace_id": "x"}, "orders has no column of that name; choose from tenant_id, agent_id, status"),
        ({"agent_id": None, "agent_ids": None}, "orders.agent_id is filtered twice"),
        ({"x" * 500: "y"}, f"filters.{'x' * 63}: "),
    ],
)
def test_a_column_that_cannot_be_filtered_on_is_refused_with_a_reason(filters: dict[str, Any], problem: str) -> None:
    assert problem in refusal(**filters)


def test_a_column_that_is_kept_back_is_not_among_the_choices() -> None:
    said = refusal(nothing=1)
    assert not {"card", "note", "tags"} & set(said.replace(",", "").split())


@pytest.mark.parametrize("values", [[], {"a": 1}, [["a"]], [1] * (MAX_VALUES + 1)])
def test_anything_but_values_is_refused_before_a_catalog_is_looked_at(values: object) -> None:
    with pytest.raises(RequestRejected, match=r"^filters.status: (must be a text|has [0-9,]+ values)"):
        parse_configuration({"tables": ["orders"], "format": "csv", "filters": {"status": values}})


def test_ten_thousand_values_are_taken() -> None:
    assert len(condition(size=list(range(MAX_VALUES))).values) == MAX_VALUES


@pytest.mark.parametrize("pg_type", ["numeric(12,2)", "character varying(3)", "character(3)", "timestamp(0)"])
def test_a_value_is_never_cut_or_rounded_to_the_column(pg_type: str) -> None:
    assert "(" not in str(compared_as(pg_type))
    assert compared_as(pg_type) != "character"  # which is one character


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_any_decimal_keeps_its_value(number: Decimal) -> None:
    assert Decimal(condition(price=str(number)).values[0]) == number


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_arrives_as_it_is(text: str) -> None:
    assert condition(status=text).values == (text,)


# Modules ------------------------------------------------------------------------------------------------------------


def tables(raw: dict[str, Any], role: Role | None = None) -> list[str]:
    return [selection.table for selection in plan({"format": "csv", **raw}, role).selections]


def test_a_module_is_all_its_tables() -> None:
    assert tables({"modules": ["sales"]}) == ["orders", "days"]
    assert tables({"modules": ["sales"]}, Role.ADMIN) == ["orders", "days"]


def test_a_module_is_only_what_the_role_may_export() -> None:
    assert tables({"modules": ["sales"]}, Role.MEMBER) == ["orders"]


def test_a_module_goes_with_tables_and_names_none_twice() -> None:
    assert tables({"modules": ["sales"], "tables": ["colours", "days"]}) == ["colours", "days", "orders"]


def test_a_named_table_keeps_its_own_filters_beside_a_module() -> None:
    named = {"type": "orders", "filters": {"status": "open"}}
    chosen = plan({"modules": ["sales"], "data_sources": [named], "filters": {"tenant_ids": None}, "format": "csv"})
    assert [[condition.column for condition in selection.conditions] for selection in chosen.selections] == [
        ["status"],
        ["tenant_id"],
    ]


def test_an_unknown_module_lists_those_of_the_role() -> None:
    with pytest.raises(RequestRejected, match=r"^modules: there is no module 'stock'; choose from sales$"):
        plan({"modules": ["stock"], "format": "csv"}, Role.MEMBER)


# Figures ------------------------------------------------------------------------------------------------------------


def test_figures_have_the_period_the_dimensions_and_the_measures() -> None:
    selection = select({"aggregation": "daily"})
    assert selection.columns == ("period_start", "status", "orders", "turnover", "least", "pieces", "mean")
    schema = CATALOG.shape("orders", selection.aggregation)
    assert {name: column.type for name, column in schema.columns.items()} == {
        "period_start": "date",
        "status": "text",
        "orders": "bigint",
        "turnover": "numeric",
        "least": "numeric(12,2)",
        "pieces": "bigint",
        "mean": "numeric",
    }


def test_fields_choose_dimensions_and_measures_and_the_period_is_always_there() -> None:
    assert select({"aggregation": "daily", "fields": ["turnover"]}).columns == ("period_start", "turnover")


def test_an_hour_of_an_instant_is_an_instant() -> None:
    shape = CATALOG.shape("orders", select({"aggregation": "hourly"}).aggregation)
    assert shape.columns["period_start"].type == "timestamp with time zone"


def test_figures_are_never_a_whole_table() -> None:
    assert select({"aggregation": "daily"}).narrow(CATALOG.tables["orders"].exported_columns)
    assert select({"filters": {"status": "open"}}).narrow(CATALOG.tables["orders"].exported_columns)
    assert not select({}).narrow(CATALOG.tables["orders"].exported_columns)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"type": "colours", "aggregation": "daily"}, "aggregation: colours has no measures"),
        ({"type": "days", "aggregation": "hourly"}, "aggregation: days.day is a date, so it has no hours"),
        ({"type": "orders", "aggregation": "yearly"}, "'hourly', 'daily', 'weekly' or 'monthly'"),
        ({"type": "orders", "aggregation": "daily", "fields": ["price"]}, "fields: orders has no column 'price'"),
        (
            {"type": "orders", "aggregation": "daily", "fields": ["status"]},
            "name at least one measure: orders, turnover",
        ),
    ],
)
def test_figures_that_cannot_be_are_refused(source: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestRejected, match=re.escape(problem)):
        plan({"data_sources": [source], "format": "csv"})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"measures": {"m": {"function": "sum", "column": "ratio"}}}, "measures.m: 'ratio' is double precision"),
        ({"measures": {"m": {"function": "sum", "column": "card"}}}, "'card' is kept back from exports"),
        ({"measures": {"m": {"function": "max", "column": "note"}}}, "'note' is kept back from exports"),
        ({"measures": {"m": {"function": "sum"}}}, "sum needs a column"),
        ({"measures": {"m": {"function": "sum", "column": "gone"}}}, "'gone', which is not among the columns"),
        ({"measures": {"m": {"function": "count_distinct", "column": "extra"}}}, "'extra' is jsonb"),
        ({"measures": {"status": {"function": "count"}}}, "names of their own"),
        ({"measures": {"period_start": {"function": "count"}}}, "names of their own"),
        ({"dimensions": ["ratio"]}, "dimensions.ratio: 'ratio' is double precision"),
        ({"dimensions": ["status"], "measures": {}}, "dimensions go with measures"),
        ({"time_column": None}, "measures need a time_column"),
        ({"time_column": "size"}, "time_column: 'size' is integer"),
    ],
)
def test_a_catalog_cannot_measure_what_would_leak_or_differ_each_time(change: dict[str, Any], problem: str) -> None:
    raw = CATALOG.model_dump(by_alias=True, mode="json")
    raw["tables"]["orders"] |= change
    with pytest.raises(ValueError, match=re.escape(problem)):
        Catalog.model_validate(raw)


# The rest -----------------------------------------------------------------------------------------------------------

MAIL = {"method": "email", "recipients": ["a@example.com"], "include_attachment": True}


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ({}, False),
        ({"data_sources": [{"type": "orders", "fields": ["agent_id", "note", "status"]}]}, True),
        ({"data_sources": [{"type": "orders", "aggregation": "daily"}]}, True),
        ({"encryption": {"method": "AES256", "password": {"sealed": True}}}, True),
    ],
)
def test_personal_columns_are_attached_only_when_encrypted(change: dict[str, Any], accepted: bool) -> None:
    raw = {"data_sources": [{"type": "orders"}], "format": "csv", "delivery": [MAIL], **change}
    if accepted:
        assert plan(raw).deliveries[0].options == {"include_attachment": True}
        return
    with pytest.raises(RequestRejected, match=r"^delivery.0.include_attachment: .*readable.*: orders.email; enc"):
        plan(raw)


def test_how_long_a_package_is_kept_can_be_said() -> None:
    raw = {"tables": ["orders"], "format": "csv", "retention": {"keep_exports_days": 90, "auto_cleanup": True}}
    assert plan(raw).keep == dt.timedelta(days=90)
    raw["retention"] = {"keep_exports_days": 90, "auto_cleanup": False}
    assert plan(raw).keep is None


def test_anonymising_is_not_promised() -> None:
    raw: dict[str, Any] = {"tables": ["orders"], "format": "csv", "options": {"anonymize": None}}
    assert plan(raw).format_options == {}
    raw["options"]["anonymize"] = {"names": "mask"}
    with pytest.raises(RequestRejected, match=r"^options.anonymize: is not available yet"):
        plan(raw)
