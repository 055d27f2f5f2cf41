"""From untrusted JSON to a plan: what is wrong is named, and nothing else ever happens."""

from __future__ import annotations

import datetime as dt
import json
import traceback
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import MAX_CONFIGURATION_BYTES, parse_configuration
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import ExportPlan, TenantScope
from export_pipelines.core.planning import plan_export, title_of
from export_pipelines.destinations.registry import all_destinations
from export_pipelines.formats.registry import all_formats
from export_pipelines.packaging.codecs import CODECS

CATALOG = Catalog.model_validate(
    {
        "name": "shop",
        "timezone": "Europe/Berlin",
        "tenant": {"table": "public.tenants"},
        "tables": {
            "orders": {
                "tenant": {"column": "tenant_id"},
                "time_column": "placed_at",
                "deleted_column": "deleted_at",
                "columns": {
                    "id": {"type": "bigint"},
                    "tenant_id": {"type": "uuid"},
                    "placed_at": {"type": "timestamptz"},
                    "deleted_at": {"type": "timestamptz"},
                    "card": {"type": "text", "exclude": "payment data"},
                    "note": {"type": "text", "mask": "free text about people"},
                },
            },
            "colours": {"tenant": {"shared": "the same for all"}, "columns": {"name": {"type": "text"}}},
        },
        "excluded": {"sessions": "login tokens"},
    }
)
AGE_KEY = "age14c2t7sal4e26aw3qvqu9sc3pw9fcp9rzc0wzwn7hk57vj9lgjalq7vduz3"
MINIMAL: dict[str, Any] = {"tables": ["orders"], "format": "csv"}


def plan(raw: Any) -> ExportPlan:
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
    )


# What a plan holds ------------------------------------------------------------------------------------------------


def test_the_short_form_and_the_long_form_make_the_same_plan() -> None:
    filters = {"date_range": {"start": "2024-01-01", "end": "2024-02-01"}, "include_deleted": True}
    short = plan({**MINIMAL, "filters": filters})
    assert short == plan({"data_sources": [{"type": "orders", "filters": filters}], "format": "csv"})


def test_a_plan_reads_all_that_may_be_read_and_no_more() -> None:
    (selection,) = plan(MINIMAL).selections
    assert selection.columns == ("id", "tenant_id", "placed_at", "deleted_at", "note")
    assert (selection.window, selection.include_deleted) == (None, False)


def test_columns_keep_the_catalogs_order_whatever_the_request_says() -> None:
    raw = {"data_sources": [{"type": "orders", "fields": ["placed_at", "id"]}], "format": "csv"}
    assert plan(raw).selections[0].columns == ("id", "placed_at")


def test_a_date_begins_in_the_catalogs_timezone() -> None:
    window = plan({**MINIMAL, "filters": {"date_range": {"start": "2024-01-01"}}}).selections[0].window
    assert window is not None
    assert window.start_at == dt.datetime(2023, 12, 31, 23, tzinfo=dt.UTC)


@pytest.mark.parametrize("name", ["csv", "CSV", " csv "])
def test_a_format_is_known_by_any_spelling(name: str) -> None:
    assert plan({**MINIMAL, "format": name}).format == "csv"


@pytest.mark.parametrize("spec", all_formats().values(), ids=lambda spec: spec.name)
def test_a_format_is_known_by_its_aliases(spec: Any) -> None:
    assert {plan({**MINIMAL, "format": alias}).format for alias in (spec.name, *spec.aliases)} == {spec.name}


def test_options_of_other_formats_are_allowed_and_have_no_effect() -> None:
    assert plan({**MINIMAL, "options": {"json_pretty": True}}).format_options == {}
    assert plan({**MINIMAL, "format": "json", "options": {"json_pretty": True}}).format_options == {"json_pretty": True}


def test_a_recipient_named_twice_gets_one_mail() -> None:
    raw = {**MINIMAL, "delivery": [{"method": "email", "recipients": ["a@example.com", "a@example.com"]}]}
    assert [delivery.recipient for delivery in plan(raw).deliveries] == ["a@example.com"]


# Tables that a date range cannot limit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "whole", "left_out"),
    [
        (None, ("colours",), ()),
        ("include", ("colours",), ()),
        ("leave_out", (), ("colours",)),
        (["colours"], ("colours",), ()),
        (["orders", "colours"], ("orders", "colours"), ()),
    ],
)
@pytest.mark.parametrize("alone", [False, True], ids=["tables", "data_sources"])
def test_tables_without_a_time_column_come_whole_or_are_left_out_and_are_named(
    word: Any, whole: tuple[str, ...], left_out: tuple[str, ...], alone: bool
) -> None:
    filters = {"date_range": {"start": "2024-01-01", "end": "2024-12-31"}}
    if word is not None:
        filters["whole_tables"] = word
    names = ["orders", "colours"]
    long_form = {"data_sources": [{"type": name, "filters": filters} for name in names], "format": "csv"}
    short_form = {"tables": names, "filters": filters, "format": "csv"}
    if alone and word is None:  # a range of its own is not ignored without a word
        with pytest.raises(RequestRejected, match="colours has no time column"):
            plan(long_form)
        return
    made = plan(long_form if alone else short_form)
    assert (made.whole_tables, made.left_out) == (whole, left_out)
    limited = {selection.table for selection in made.selections if selection.window is not None}
    assert limited == set(names) - {*whole, *left_out}


@pytest.mark.parametrize("word", ["refuse", ["orders"]])
def test_a_table_that_must_not_come_whole_refuses_the_request(word: Any) -> None:
    filters = {"date_range": {"start": "2024-01-01"}, "whole_tables": word}
    with pytest.raises(
        RequestRejected, match=r"colours has no time column.*filters\.whole_tables to include"
    ) as refused:
        plan({"tables": ["orders", "colours"], "filters": filters, "format": "csv"})
    assert refused.value.field == "filters.date_range"


# What it is called ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "Data export"),
        ({"export_type": "full_backup"}, "Full backup"),
        ({"export_type": "migration"}, "Migration"),
        ({"export_type": "migration", "name": "To the new system"}, "To the new system"),
    ],
)
def test_an_export_without_a_name_is_called_what_it_is(change: dict[str, Any], name: str) -> None:
    assert plan({**MINIMAL, **change}).name == name


def test_a_conversion_without_a_name_is_called_what_it_is() -> None:
    raw = {"convert": "00000000-0000-4000-8000-00000000dead", "format": "csv"}
    assert title_of(parse_configuration(raw)) == "Converted export"
    assert title_of(parse_configuration({**raw, "name": "As CSV"})) == "As CSV"


# How long it is kept -----------------------------------------------------------------------------------------------


def test_more_days_than_packages_are_kept_are_refused_and_never_shortened() -> None:
    def keep(days: float, **more: Any) -> dt.timedelta | None:
        return plan_export(
            parse_configuration({**MINIMAL, "retention": {"keep_exports_days": days, **more}}),
            CATALOG,
            request_id="r",
            attempt=1,
            scope=TenantScope(tenant_id="t"),
            requested_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
            formats=all_formats(),
            codecs=CODECS,
            longest_keep=dt.timedelta(days=30),
        ).keep

    assert keep(30) == dt.timedelta(days=30)
    assert keep(90, auto_cleanup=False) is None
    with pytest.raises(RequestRejected, match=r"90 days are longer .* ask for up to 30 days") as refused:
        keep(90)
    assert refused.value.field == "retention.keep_exports_days"


# What is refused, by name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"format": "docx"}, "format", "choose from csv"),
        ({"format": ""}, "format", "must not be empty"),
        ({"tables": []}, "tables", "at least one"),
        ({"tables": [""]}, "tables.0", "must not be empty"),
        ({"tables": ["x" * 64]}, "tables.0", "at most 63"),
        ({"tables": ["orders", "orders"]}, "tables", "named twice"),
        ({"tables": ["sessions"]}, "tables", "login tokens"),
        ({"tables": ["orders; DROP TABLE orders"]}, "tables", "not in the catalog"),
        ({"tables": ["order"]}, "tables", r"is not in the catalog; did you mean 'orders'\?"),
        ({"tables": ["nothing"]}, "tables", "is not in the catalog; the catalog lists what there is"),
        ({"format": "parqet"}, "format", r"did you mean 'parquet'\?"),
        ({"format": "exel"}, "format", r"did you mean 'xlsx'\?"),
        ({"compression": "gzpi"}, "compression", r"did you mean 'gzip'\?"),
        ({"options": {"jsonPretty": True}}, "options", r"did you mean 'json_pretty'\?"),
        ({"filters": {"dateFrom": "2024-01-01"}}, "filters.dateFrom", "is called `filters.date_range.start` here"),
        ({"filters": {"placedAt": "2024-01-01"}}, "filters.placedAt", r"did you mean 'placed_at'\?"),
        ({"delivery": [{"method": "emial"}]}, "delivery.0.method", r"did you mean 'email'\?"),
        (
            {"delivery": [{"method": "email", "recipients": ["a@b.cd"], "recipient": "a@b.cd"}]},
            "delivery.0.recipient",
            r"did you mean `delivery.0.recipients`\?",
        ),
        ({"data_sources": [{"type": "orders"}]}, "config", "either tables or data_sources"),
        ({"tables": None}, "config", "either tables or data_sources"),
        (
            {"tables": None, "data_sources": [{"type": "orders"}], "filters": {}},
            "config",
            "have their own",
        ),
        ({"tables": None, "convert": "x"}, "convert", "is not an id"),
        ({"convert": "00000000-0000-4000-8000-00000000dead"}, "config", "or an export to convert"),
        ({"tables": None, "data_sources": [{"type": "orders", "fields": ["id", "id"]}]}, "fields", "named twice"),
        ({"tables": None, "data_sources": [{"type": "orders", "fields": ["nope"]}]}, "fields", "choose from id"),
        ({"tables": None, "data_sources": [{"type": "orders", "fields": ["card"]}]}, "fields", "payment data"),
        (
            {"tables": None, "data_sources": [{"type": "orders", "where": "1=1"}]},
            "data_sources.0.where",
            "is called `data_sources.0.filters` here",
        ),
        (
            {"tables": None, "data_sources": [{"type": "colours", "filters": {"date_range": {"start": "2024-01-01"}}}]},
            "filters.date_range",
            "no time column",
        ),
        ({"filters": {"whole_tables": "some"}}, "filters.whole_tables", "must be include, refuse, leave_out, or"),
        ({"filters": {"whole_tables": []}}, "filters.whole_tables", "or a list of tables"),
        ({"filters": {"whole_tables": ["colours"]}}, "filters.whole_tables", "which is not in the export"),
        (
            {"tables": ["colours"], "filters": {"date_range": {"start": "2024-01-01"}, "whole_tables": "leave_out"}},
            "filters.whole_tables",
            "leaves nothing",
        ),
        ({"filters": {"date_range": {"start": "then"}}}, "filters.date_range.start", "is not a date"),
        (
            {"filters": {"date_range": {"start": "2024-01-02", "end": "2024-01-01"}}},
            "filters.date_range.end",
            "half-open",
        ),
        (
            {"filters": {"date_range": {"begin": "2024-01-02"}}},
            "filters.date_range.begin",
            "is called `filters.date_range.start` here",
        ),
        ({"compression": "rar"}, "compression", "none"),
        ({"format": "parquet", "compression": "gzip"}, "compression", "compressed already"),
        ({"options": {"colour": "red"}}, "options", "choose from"),
        ({"format": "json", "options": {"json_pretty": "often"}}, "options.json_pretty", "must be true or false"),
        ({"name": "a\nb"}, "name", "line breaks"),
        ({"name": "x" * 201}, "name", "200"),
        (
            {"delivery": [{"method": "email", "recipients": ["nobody"]}]},
            "delivery.0.recipients.0",
            "not an email address",
        ),
        (
            {"delivery": [{"method": "email", "recipients": ["a@b.c\r\nBcc: x@y.z"]}]},
            "delivery.0.recipients.0",
            "not an email",
        ),
        (
            {"delivery": [{"method": "email", "recipients": ["a@b.c"], "subject": "x\r\nBcc: y"}]},
            "delivery.0.subject",
            "line",
        ),
        ({"delivery": [{"method": "fax"}]}, "delivery.0.method", "choose from download, email, folder"),
        ({"delivery": [{}]}, "delivery.0.method", "required"),
        ({"delivery": [{"method": "download"}, {"method": "folder"}]}, "delivery.1.folder", "required"),
        ({"delivery": [{"method": "download", "recipients": ["a@b.cd"]}]}, "delivery.0.recipients", "not a known"),
        ({"delivery": [{"method": "email", "recipients": []}]}, "delivery.0.recipients", "at least one"),
        ({"delivery": [{"method": "folder", "folder": ""}]}, "delivery.0.folder", "must not be empty"),
        ({"export_type": "everything"}, "export_type", "selective"),
        ({"surprise": 1}, "surprise", "not a known field"),
        ({"compression": "zstd", "format": "xlsx"}, "compression", "compressed already"),
        ({"split_files": {}}, "split_files", "split_by month, week or size"),
        ({"split_files": {"split_by": "year"}}, "split_files.split_by", "month"),
        ({"split_files": {"split_by": "size"}}, "split_files.max_size_mb", "is needed"),
        ({"split_files": {"max_size_mb": 0}}, "split_files.max_size_mb", r"0 is outside 0\.01 to 1,000,000"),
        ({"split_files": {"max_size_mb": -3}}, "split_files.max_size_mb", "-3 is outside"),
        ({"split_files": {"max_size_mb": 1e300}}, "split_files.max_size_mb", "is outside"),
        ({"split_files": {"max_size_mb": float("nan")}}, "split_files.max_size_mb", "is not a finite number"),
        ({"split_files": {"split_by": "month"}, "tables": ["colours"]}, "split_files.split_by", "has a time column"),
        (
            {
                "tables": None,
                "data_sources": [{"type": "orders", "fields": ["id"]}],
                "split_files": {"split_by": "month"},
            },
            "split_files.split_by",
            "needs orders.placed_at, which fields leaves out",
        ),
        ({"encryption": {}}, "encryption.method", "choose AES256 or age"),
        ({"encryption": {"method": "rot13"}}, "encryption.method", "AES256"),
        ({"encryption": {"method": "AES256"}}, "encryption.password", "is needed"),
        ({"encryption": {"method": "AES256", "password": ""}}, "encryption.password", "is empty; use 12 to 99"),
        ({"encryption": {"method": "AES256", "password": "short"}}, "encryption.password", "has 5 characters"),
        ({"encryption": {"method": "AES256", "password": "x" * 100}}, "encryption.password", "has 100 characters"),
        ({"encryption": {"method": "AES256", "password": "pässword-long"}}, "encryption.password", "ASCII"),
        ({"encryption": {"method": "AES256", "recipients": [AGE_KEY]}}, "encryption.recipients", "go with age"),
        ({"encryption": {"method": "age"}}, "encryption.password", "or give recipients"),
        (
            {"encryption": {"method": "age", "recipients": [AGE_KEY], "password": "x" * 12}},
            "encryption.password",
            "exclude each other",
        ),
        ({"encryption": {"method": "age", "recipients": ["nobody"]}}, "encryption.recipients", "begin with age1"),
    ],
)
def test_what_is_wrong_is_named_with_a_next_step(change: dict[str, Any], field: str, message: str) -> None:
    raw = {key: value for key, value in {**MINIMAL, **change}.items() if value is not None}
    with pytest.raises(RequestRejected, match=message) as refused:
        plan(raw)
    assert refused.value.field == field


def test_what_is_turned_off_is_ignored_whatever_it_says() -> None:
    off = {"enabled": False, "split_by": "none", "max_size_mb": 0, "method": "none", "password": "x", "surprise": 1}
    assert plan({**MINIMAL, "split_files": off, "encryption": off}) == plan(MINIMAL)


@pytest.mark.parametrize("password", ["tiny", "y" * 200, 12345678901234, ["secret-in-a-list"]])
def test_a_refused_password_is_in_no_message_and_no_cause(password: Any) -> None:
    with pytest.raises(RequestRejected) as refused:
        plan({**MINIMAL, "encryption": {"method": "AES256", "password": password}})
    reported = "".join(traceback.format_exception(refused.value, chain=True))
    needle = password[0] if isinstance(password, list) else str(password)
    assert needle not in reported.replace("test_a_refused_password", "")


def test_a_plan_knows_that_there_is_a_password_and_not_which() -> None:
    made = plan({**MINIMAL, "encryption": {"method": "aes256", "password": "correct horse"}})
    assert made.sealing is not None
    assert made.sealing.needs_password
    assert "correct horse" not in repr(made)


def test_a_configuration_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(RequestRejected, match=f"larger than {MAX_CONFIGURATION_BYTES} bytes.*in several exports"):
        plan({**MINIMAL, "options": {"x": "y" * MAX_CONFIGURATION_BYTES}})


def test_a_configuration_that_is_nested_without_end_is_refused() -> None:
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    with pytest.raises(RequestRejected, match="config"):
        plan({**MINIMAL, "options": deep})


@pytest.mark.parametrize(
    "at", ["2026-01-02T00:00:01Z", "2090-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
)
def test_a_point_in_time_that_has_not_been_or_no_clock_can_show_is_refused(at: str) -> None:
    backup = {"export_type": "full_backup", "format": "csv"}
    now = plan({**backup, "point_in_time": "2026-01-02T01:00:00+01:00"})
    assert now.point_in_time == now.requested_at
    with pytest.raises(RequestRejected, match=r"future|outside") as refused:
        plan({**backup, "point_in_time": at})
    assert refused.value.field == "point_in_time"


# Anything at all --------------------------------------------------------------------------------------------------

texts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.sampled_from(
        ["orders", "colours", "sessions", "csv", "xlsx", "id", "card", "email", "2024-01-01", "a@b.c", "gzip"]
    ),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
date_ranges = st.fixed_dictionaries({}, optional={"start": json_values | texts, "end": json_values | texts})
filters = st.fixed_dictionaries({}, optional={"date_range": date_ranges, "include_deleted": json_values})


def switched(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """A part that can be turned off, with some of its fields."""
    return json_values | st.fixed_dictionaries({}, optional={"enabled": st.booleans() | json_values, **fields})


near_misses = st.fixed_dictionaries(
    {"format": texts | json_values},
    optional={
        "export_type": st.sampled_from(["selective", "full_backup", "migration"]) | json_values,
        "point_in_time": st.datetimes(timezones=st.timezones()).map(dt.datetime.isoformat) | json_values,
        "name": texts | json_values,
        "tables": st.lists(texts, max_size=3) | json_values,
        "data_sources": st.lists(
            st.fixed_dictionaries({"type": texts}, optional={"fields": st.lists(texts), "filters": filters}), max_size=3
        ),
        "filters": filters | json_values,
        "options": st.dictionaries(st.sampled_from(["json_pretty", "csv_profile", "nope"]), json_values, max_size=2)
        | json_values,
        "compression": texts | json_values,
        "split_files": switched(
            {"split_by": st.sampled_from(["month", "week", "size"]) | json_values, "max_size_mb": json_values}
        ),
        "encryption": switched(
            {
                "method": st.sampled_from(["AES256", "age"]) | json_values,
                "password": texts | st.just("correct horse battery") | json_values,
                "recipients": st.lists(st.just(AGE_KEY) | texts, max_size=2) | json_values,
            }
        ),
        "delivery": st.lists(
            st.fixed_dictionaries({"method": texts}, optional={"recipients": st.lists(texts), "subject": texts}),
            max_size=2,
        )
        | json_values,
    },
)


def planned_or_refused(raw: Any) -> ExportPlan | RequestRejected:
    try:
        return plan(raw)
    except RequestRejected as refused:
        return refused


@given(json_values | near_misses)
@example([])
@example({"format": "csv", "tables": ["orders"], "options": {"json_pretty": float("nan")}})
@example({"format": "\ud800", "tables": ["orders"]})
@example({"format": "csv", "tables": ["\ud800"]})
def test_any_json_is_planned_or_rejected_with_the_field_named(raw: Any) -> None:
    made = planned_or_refused(raw)
    if isinstance(made, RequestRejected):
        assert made.field
        assert str(made).startswith(made.field)
    else:
        assert {selection.table for selection in made.selections} <= CATALOG.tables.keys()
        assert all("card" not in selection.columns for selection in made.selections)


@given(near_misses)
def test_what_is_planned_once_is_planned_the_same_after_a_round_trip_through_the_table(raw: Any) -> None:
    made = planned_or_refused(raw)
    if isinstance(made, ExportPlan):
        assert plan(json.loads(json.dumps(raw))) == made
