"""Formula escaping is total, reversible and leaves harmless text alone."""

from __future__ import annotations

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.escaping import ESCAPED, neutralise, restore
from export_pipelines.formats.rendering import neutralised

_risky = st.text(st.sampled_from("'= +-@\t\r\n\uff1d\u00a0ab1"), max_size=6)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
@pytest.mark.parametrize("lead", ["", "'", "''", " ", "\u00a0", " '"])
def test_text_that_could_start_a_formula_gets_an_apostrophe(lead: str, start: str) -> None:
    assert neutralise(f"{lead}{start}1") == f"'{lead}{start}1"


@pytest.mark.parametrize("text", ["", "a", "1", "'", "'text", "''", "a=1", "1-1", "(=1)"])
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert neutralise(text) == text
    assert restore(text) == text


@given(st.text() | _risky)
def test_every_text_comes_back(text: str) -> None:
    assert restore(neutralise(text)) == text


@given(st.lists(_risky, max_size=20))
def test_columns_follow_the_same_rule_as_single_values(texts: list[str]) -> None:
    column = pl.DataFrame({"text": texts}, schema={"text": pl.String}).select(neutralised(pl.col("text"))).to_series()
    assert column.to_list() == [neutralise(text) for text in texts]


@given(_risky)
def test_duckdb_reads_the_pattern_as_python_does(text: str) -> None:
    with duckdb.connect() as session:
        row = session.execute("SELECT regexp_replace($1, $2, '\\1')", [text, ESCAPED]).fetchone()
    assert row == (restore(text),)
