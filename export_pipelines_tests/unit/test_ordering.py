"""Options of the command line as the JSON of a request."""

from __future__ import annotations

from typing import Any

import pytest

from export_pipelines.commands.ordering import (
    DeliveryOptions,
    OrderOptions,
    PackageOptions,
    PeriodOptions,
    ProductOptions,
    SelectionOptions,
    changed_order,
    new_order,
)
from export_pipelines.core.errors import RequestRejected
from export_pipelines.settings import Settings


def order(period: PeriodOptions | None = None, **selection: Any) -> dict[str, Any]:
    chosen = SelectionOptions(**{"tables": "pets,invoices", **selection})
    return new_order(OrderOptions(selection=chosen, period=period or PeriodOptions()), None)


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["pets:species=dog,cat"], ["dog", "cat"]),
        (["pets:species=dog", "pets:species=cat"], ["dog", "cat"]),
        (['pets:species="a,b",c'], ["a,b", "c"]),
        ([r"pets:species=dog,\N"], ["dog", None]),
        (["pets:species="], [""]),
        (["pets: species =a=b:c"], ["a=b:c"]),
    ],
)
def test_a_filter_is_split_at_commas_outside_quotes(texts: list[str], values: list[str | None]) -> None:
    pets, invoices = order(filter_=texts)["data_sources"]
    assert pets["filters"] == {"species": values, "include_deleted": False}
    assert invoices["filters"] == {"include_deleted": False}


def test_an_aggregate_belongs_to_its_table() -> None:
    pets, invoices = order(aggregate=["invoices:daily"])["data_sources"]
    assert (pets["aggregation"], invoices["aggregation"]) == (None, "daily")


def test_a_module_needs_no_tables_and_shares_the_dates() -> None:
    found = order(tables="", module=["billing"], period=PeriodOptions(from_="2024-01-01"))
    assert "data_sources" not in found
    assert found["modules"] == ["billing"]
    assert found["filters"] == {"include_deleted": False, "date_range": {"start": "2024-01-01", "end": None}}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"filter_": ["pets.species=dog"]}, "--filter: .* is not table:column=value"),
        ({"filter_": ["pets:species"]}, "--filter: .* is not table:column=value"),
        ({"filter_": ["dogs:name=Rex"]}, "--filter: names dogs, which is not in --tables"),
        ({"filter_": ['pets:species="dog']}, "--filter: .* cannot be split"),
        ({"aggregate": ["invoices"]}, "--aggregate: 'invoices' is not table:daily"),
        ({"aggregate": ["dogs:daily"]}, "--aggregate: names dogs"),
        ({"tables": " , "}, "--tables: is empty; name at least one table, or a --module"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestRejected, match=rf"^{problem}"):
        order(**options)


def test_a_new_order_says_what_was_not_given() -> None:
    package = PackageOptions(format_="csv", option=["bom=true", "delimiter=;"])
    found = new_order(options_of(package=package), None)
    assert {name: found[name] for name in found if name != "data_sources"} == {
        "name": "",
        "format": "csv",
        "compression": "none",
        "options": {"bom": True, "delimiter": ";"},
        "split_files": None,
        "encryption": None,
        "delivery": [],
    }


def options_of(selection: SelectionOptions | None = None, **product: Any) -> OrderOptions:
    chosen = selection or SelectionOptions(tables="pets")
    return OrderOptions(selection=chosen, product=ProductOptions(**product))


BEFORE = {"name": "Pets", "tables": ["pets"], "filters": {"species": ["dog"]}, "format": "csv", "compression": "gzip"}


def test_a_changed_order_keeps_what_was_not_given() -> None:
    settings = Settings()
    assert changed_order(BEFORE, options_of(SelectionOptions()), settings) == BEFORE
    reported = {"package": PackageOptions(format_="xlsx"), "delivery": DeliveryOptions(email=["ann@example.com"])}
    assert changed_order(BEFORE, options_of(SelectionOptions(), **reported), settings) == {
        **BEFORE,
        "format": "xlsx",
        "delivery": [{"method": "email", "recipients": ["ann@example.com"]}],
    }


def test_a_changed_selection_takes_the_place_of_the_whole_one() -> None:
    changed = changed_order(BEFORE, options_of(SelectionOptions(tables="invoices", include_deleted=True)), Settings())
    assert changed == {
        "name": "Pets",
        "format": "csv",
        "compression": "gzip",
        "data_sources": [
            {"type": "invoices", "filters": {"include_deleted": True}, "fields": None, "aggregation": None}
        ],
    }


@pytest.mark.parametrize(
    ("selection", "problem"),
    [
        ({"include_deleted": True}, "--include-deleted: is part of the selection; give --tables or --module as well"),
        ({"fields": ["pets:name"]}, "--tables: is empty"),
    ],
)
def test_half_a_selection_changes_nothing(selection: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestRejected, match=rf"^{problem}"):
        changed_order(BEFORE, options_of(SelectionOptions(**selection)), Settings())
