"""Which paths a package may have: none that a program takes for another place."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.naming import part_name, segment
from export_pipelines.core.package_paths import path_problem, paths_problem, reader_key, shown


@given(st.text(max_size=63), st.integers(1, 9999), st.sampled_from([None, "2024-03", "undated"]))
def test_names_that_this_program_makes_are_allowed(name: str, part: int, period: str | None) -> None:
    if not name.endswith("~") and "~" not in segment(name):
        assert path_problem(f"data/{part_name(name, part, 'csv.gz', period=period)}") is None


@given(st.text(min_size=1, max_size=20))
def test_spellings_of_one_name_have_one_key(name: str) -> None:
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    forms += [unicodedata.normalize("NFD", name).casefold(), f"{name}. .", f"{name};1"]
    assert {reader_key(form) for form in forms} == {reader_key(name)}


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (["a/b", "a/c", "A.b"], None),
        (["a", "a"], "there twice"),
        (["a/b", "a"], "the same name"),
        (["a", "a/b"], "the same name"),
        (["a/b", "A/c"], "the same name"),
        (["a?b", "a*b"], "the same name"),
        (["#U00e9", "é"], "the same name"),
        (["#L01f600", "😀"], "the same name"),
        (["x" * 1001], "longer than"),
        (["é" * 128], "longer than"),
        (["x/" * 31 + "x"], "deeper than"),
        (["\udcff"], "invisible"),
        (["a/ /b"], "programs drop"),
        (["a/...;1/b"], "programs drop"),
        (["progra~1"], "short name"),
        (["a~b", "longer-name~1.csv", "x.tar~1"], None),
    ],
)
def test_paths_are_allowed_or_it_is_said_why_not(paths: list[str], problem: str | None) -> None:
    found = paths_problem(paths)
    assert found is None if problem is None else problem in str(found)


def test_a_name_made_to_be_slow_is_not() -> None:
    started = time.process_time()
    assert path_problem(";" * 60_000 + "x") is not None
    assert path_problem(";" * 250 + "x") is None
    assert time.process_time() - started < 1


def test_a_name_does_not_speak_to_the_terminal() -> None:
    assert shown("a\x1b[2J\n") == "a\\x1b[2J\\n"
    assert len(shown("x" * 5000)) < 300
