"""Options of the command line as the JSON of a request."""

from __future__ import annotations

from typing import Any

import pytest

from export_pipelines.commands.ordering import export_order
from export_pipelines.core.errors import RequestRejected


def order(**options: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "tables": "pets,invoices",
        "modules": None,
        "format_": "csv",
        "dates": (None, None),
        "fields": None,
        "filters": None,
        "aggregates": None,
        "compression": "none",
        "split": None,
        "max_size_mb": None,
        "many_files": False,
        "encryption": None,
        "option": None,
        "name": "",
        "email": None,
        "include_deleted": False,
    }
    return export_order(**{**plain, **options})


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
    pets, invoices = order(filters=texts)["data_sources"]
    assert pets["filters"] == {"species": values, "include_deleted": False}
    assert invoices["filters"] == {"include_deleted": False}


def test_an_aggregate_belongs_to_its_table() -> None:
    pets, invoices = order(aggregates=["invoices:daily"])["data_sources"]
    assert (pets["aggregation"], invoices["aggregation"]) == (None, "daily")


def test_a_module_needs_no_tables_and_shares_the_dates() -> None:
    found = order(tables="", modules=["billing"], dates=("2024-01-01", None))
    assert "data_sources" not in found
    assert found["modules"] == ["billing"]
    assert found["filters"] == {"include_deleted": False, "date_range": {"start": "2024-01-01", "end": None}}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"filters": ["pets.species=dog"]}, "--filter: .* is not table:column=value"),
        ({"filters": ["pets:species"]}, "--filter: .* is not table:column=value"),
        ({"filters": ["dogs:name=Rex"]}, "--filter: names dogs, which is not in --tables"),
        ({"filters": ['pets:species="dog']}, "--filter: .* cannot be split"),
        ({"aggregates": ["invoices"]}, "--aggregate: 'invoices' is not table:daily"),
        ({"aggregates": ["dogs:daily"]}, "--aggregate: names dogs"),
        ({"tables": " , "}, "--tables: is empty; name at least one table, or a --module"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestRejected, match=rf"^{problem}"):
        order(**options)
