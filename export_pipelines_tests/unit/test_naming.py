"""Object keys: no value from outside can climb out of its folder or meet another's."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from export_pipelines.core.catalog import Grain
from export_pipelines.core.model import TenantScope
from export_pipelines.core.naming import (
    download_name,
    export_prefix,
    lake_prefix,
    part_name,
    segment,
    slug,
    stage_prefix,
)
from export_pipelines.core.package_paths import path_problem
from export_pipelines.object_stores.keys import checked_key

NASTY = [
    "",
    "\x00",
    ".",
    "..",
    "...",
    "%",
    "%00",
    "%2E",
    "a/b",
    "a%2Fb",
    "A",
    "a",
    " ",
    ".writing-x",
    "\ud800",
    "\udcff",
    "é",
    "é",
]
any_text = st.one_of(
    st.text(st.characters(exclude_categories=())), st.sampled_from(NASTY), st.text("a.%/~", max_size=400)
)


@given(any_text, any_text)
@example("", "\x00")
@example("x" * 500, "x" * 501)
@example(".", "%2E")
def test_distinct_texts_have_distinct_segments(one: str, other: str) -> None:
    assert (segment(one) == segment(other)) == (one == other)


@given(any_text)
@example("é" * 200)
def test_a_segment_is_one_plain_part_of_a_path(value: str) -> None:
    made = segment(value)
    assert re.fullmatch(r"[A-Za-z0-9_.~@+=,%-]{1,200}", made)
    assert not made.startswith(".")
    assert checked_key(f"tenant={made}/{made}") == f"tenant={made}/{made}"


def test_a_long_text_cannot_be_forged_by_a_short_one() -> None:
    long = "x" * 300
    assert segment(segment(long)) != segment(long)


@given(any_text, any_text)
def test_no_tenant_can_reach_the_packages_of_another(one: str, other: str) -> None:
    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    mine = export_prefix(TenantScope(tenant_id=one), "selective", when, "r")
    theirs = export_prefix(TenantScope(tenant_id=other), "selective", when, "r")
    assert mine.startswith("exports/")
    assert mine.count("/") == 6
    assert (mine == theirs) == (one == other)


@pytest.mark.parametrize(
    ("grain", "period", "expected"),
    [
        (Grain.MONTH, dt.date(2024, 3, 1), "lake/clinic/pets/tenant=t/month=2024-03"),
        (Grain.DAY, dt.date(2024, 3, 9), "lake/clinic/pets/tenant=t/day=2024-03-09"),
        (Grain.NONE, None, "lake/clinic/pets/tenant=t"),
    ],
)
def test_a_partition_has_a_folder_of_its_own(grain: Grain, period: dt.date | None, expected: str) -> None:
    assert lake_prefix("clinic", "pets", TenantScope(tenant_id="t"), grain, period) == expected


def test_attempts_stage_apart_and_publish_to_one_place() -> None:
    assert stage_prefix("r", 1) == "stage/r/1"
    assert stage_prefix("r", 2) == "stage/r/2"


@given(any_text)
def test_a_slug_is_readable_and_never_empty(value: str) -> None:
    made = slug(value)
    assert path_problem(made) is None
    assert slug(made) == made
    assert not set(made) & set(" \"'/\\:*?<>|%.")
    assert len(made.encode()) <= 180


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ('Hé"llo: / Ünï', "hé-llo-ünï"),
        ("Мои данные 2026", "мои-данные-2026"),
        ("顧客データ", "顧客データ"),
        ("हिन्दी", "हिन्दी"),
        ("e\u0301te\u0301", "été"),
        ("../../etc/passwd", "etc-passwd"),
        ("\u202egpj.exe", "gpj-exe"),
        ("🐾", "export"),
        ("ب" * 200, "ب" * 60),
        ("𠀀" * 60, "𠀀" * 45),
    ],
)
def test_a_slug_keeps_the_letters_of_all_scripts(title: str, expected: str) -> None:
    assert slug(title) == expected


@given(any_text, any_text)
def test_two_tables_never_have_one_file_name(one: str, other: str) -> None:
    assert (part_name(one, 1, "csv") == part_name(other, 1, "csv")) == (one == other)
    assert checked_key(part_name(one, 2, "csv.gz", period="2024-03")).count("/") == 0


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("müller", "müller.csv"),
        ("заказы", "заказы.csv"),
        ("a/b", "a%2Fb.csv"),
        ("mu\u0308ller", "mu%CC%88ller.csv"),
        ("straße", "stra%C3%9Fe.csv"),
        ("Überweisung", "%C3%9Cberweisung.csv"),
        ("", "%.csv"),
        (".ü", "%2Eü.csv"),
    ],
)
def test_a_file_of_rows_keeps_the_letters_of_its_table(table: str, expected: str) -> None:
    assert part_name(table, 1, "csv") == expected


@given(any_text)
def test_a_download_is_named_safely_for_any_title(title: str) -> None:
    name = download_name(title, "0123abcd-ffff", "zip")
    assert name == f"{slug(title)}-0123abcd.zip"
    assert path_problem(name) is None
    assert checked_key(name) == name


@pytest.mark.parametrize(("part", "expected"), [(1, "pets.csv"), (2, "pets.0002.csv"), (10_000, "pets.10000.csv")])
def test_parts_are_numbered_from_the_second(part: int, expected: str) -> None:
    assert part_name("pets", part, "csv") == expected
