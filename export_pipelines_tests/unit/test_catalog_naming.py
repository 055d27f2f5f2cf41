"""What names suggest; every guess errs on the careful side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.catalog.inventory import LiveColumn
from export_pipelines.catalog.naming import (
    alive_when,
    deleted_column,
    noun_stem,
    relation_name,
    slug,
    time_column,
    words_of,
)


def column(name: str, type_: str = "text", *, not_null: bool = True) -> LiveColumn:
    return LiveColumn(name=name, type=type_, declared_type=type_, not_null=not_null, comment=None)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("pets", "pets"),
        ("_odd__name_", "_odd__name_"),
        ("Order Details", "order_details"),
        ("OrderDetails", "order_details"),
        ("order-état", "order_etat"),
        ("2fa", "t_2fa"),
        ("注文", "t_"),
        ("A" * 70, "a" * 63),
    ],
)
def test_any_name_becomes_a_catalog_key(name: str, key: str) -> None:
    assert slug(name) == key


@given(st.lists(st.text(min_size=1, max_size=80), max_size=8))
def test_keys_are_valid_and_never_collide(names: list[str]) -> None:
    keys: list[str] = []
    for name in names:
        keys.append(slug(name, taken=keys))
    assert len(set(keys)) == len(names)
    for key in keys:
        assert key.isascii()
        assert len(key) <= 63
        assert not key[0].isdigit()
        assert key.replace("_", "a").isalnum()
        assert key == key.lower()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("user_api_keys", ("user", "api", "key")),
        ("userAPIKeys", ("user", "api", "key")),
        ("IPAddress", ("ip", "address")),
        ("Order Details", ("order", "detail")),
        ("addresses", ("address",)),
        ("cvv2", ("cvv2",)),
        ("banknotes", ("banknote",)),
    ],
)
def test_a_name_is_taken_apart_into_words(name: str, words: tuple[str, ...]) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("project", "projects"),
        ("category", "categories"),
        ("movie", "movies"),
        ("cache", "caches"),
        ("house", "houses"),
        ("box", "boxes"),
        ("hero", "heroes"),
        ("bus", "buses"),
        ("address", "addresses"),
        ("person", "people"),
        ("user_status", "user_statuses"),
        ("order_line", "order_lines"),
    ],
)
def test_a_noun_and_its_plural_have_one_stem(one: str, many: str) -> None:
    assert noun_stem(one) == noun_stem(many)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            [column("updated_at", "timestamp with time zone"), column("created_at", "timestamp with time zone")],
            "created_at",
        ),
        ([column("visit_date", "date"), column("inserted_at", "date")], "inserted_at"),
        ([column("created_at", "date", not_null=False), column("sent_on", "date")], "sent_on"),
        ([column("sent_on", "date", not_null=False)], "sent_on"),
        ([column("whenever", "date")], "whenever"),
        ([column("whenever", "date", not_null=False)], None),
        ([column("birth_date", "date"), column("due_date", "date"), column("last_update", "date")], None),
        ([column("created_at", "text")], None),
    ],
)
def test_the_time_column_says_when_a_row_came_to_be(columns: list[LiveColumn], expected: str | None) -> None:
    found = time_column(columns)
    assert (found.name if found else None) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([column("deleted_at", "date", not_null=False)], ("deleted_at", None)),
        ([column("deleted_at", "timestamp with time zone")], (None, None)),  # never NULL: every row would be deleted
        ([column("deleted_at", "date"), column("removed_at", "date", not_null=False)], ("removed_at", None)),
        ([column("is_deleted", "boolean")], ("is_deleted", False)),
        ([column("isDeleted", "boolean", not_null=False)], ("isDeleted", False)),
        ([column("deleted_at", "boolean")], ("deleted_at", False)),
        ([column("deleted", "boolean"), column("deleted_at", "date", not_null=False)], ("deleted_at", None)),
        ([column("deleted", "integer"), column("active", "boolean")], (None, None)),
    ],
)
def test_a_deleted_row_is_told_by_a_time_that_may_be_null_or_by_a_flag(
    columns: list[LiveColumn], expected: tuple[str | None, bool | None]
) -> None:
    by_name = {c.name: c for c in columns}
    found = deleted_column(by_name)
    assert (found, alive_when(by_name[found]) if found else None) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("store_id",), "store"),
        (("storeId",), "store"),
        (("owner",), "owner"),
        (("a", "b"), "orders"),
        (("_id",), "_id"),
    ],
)
def test_a_relation_is_called_after_its_column(columns: tuple[str, ...], expected: str) -> None:
    assert relation_name(columns, "orders", taken=()) == expected
