"""Values of databases that once were exported wrongly, from the tables to the files, with the right ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from psycopg import sql

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import Condition
from export_pipelines.core.types import field_of
from export_pipelines.formats.registry import all_formats
from export_pipelines.sources.encoding import Unencodable
from export_pipelines.sources.engines import Engine
from export_pipelines.validation.row_digest import account
from export_pipelines_tests.chain import Chain, cells, linked, load, problems
from export_pipelines_tests.host import CASES, create_database

FORMATS = tuple(all_formats())
SERVERS = ("postgres", "debian_postgres")


@pytest.fixture(scope="module")
def chain_of(request: pytest.FixtureRequest) -> Callable[..., Chain]:
    """``chain_of("latin1", "postgres", encoding="LATIN1")``: a case in a database of that server, once."""
    made: dict[tuple[str, str, str], Chain] = {}

    def chain(case: str, server: str = "postgres", encoding: str = "UTF8", tenant_table: str = "firms") -> Chain:
        if (case, server, encoding) not in made:
            running = request.getfixturevalue(server)
            url = create_database(running, case, encoding)
            load(url, (CASES / f"{case}.sql").read_bytes())
            made[case, server, encoding] = linked(url, running, tenant_table=f"public.{tenant_table}")
        return made[case, server, encoding]

    return chain


def require_exact(chain: Chain, engine: Engine, table: str, folder: Path, formats: tuple[str, ...] = FORMATS) -> Any:
    """Every format's file has the rows and the figures of the database."""
    rows, figures = chain.read(engine, table)
    assert problems(rows, figures, formats, folder) == []
    return rows


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("case", "encoding", "tenants", "table", "values"),
    [
        ("latin1", "LATIN1", "firms", "t", [(1, "é")]),
        ("eucjp", "EUC_JP", "会社", "t", [(1, "語", "日   ", '{"日": "本"}', '["日",null]')]),
        ("sql_ascii", "SQL_ASCII", "firms", "good", [(1, "é", "é  ", '{"é": "ü"}')]),
    ],
)
def test_texts_of_any_encoding_are_counted_as_the_files_have_them(
    chain_of: Callable[..., Chain],
    engine: Engine,
    tmp_path: Path,
    server: str,
    case: str,
    encoding: str,
    tenants: str,
    table: str,
    values: list[Any],
) -> None:
    rows = require_exact(chain_of(case, server, encoding, tenants), engine, table, tmp_path)
    assert cells(rows, [name for name in rows.column_names if name != "firm_id"]) == values


@pytest.mark.parametrize("server", SERVERS)
def test_a_text_that_is_no_utf8_is_refused_with_its_column(
    chain_of: Callable[..., Chain], engine: Engine, server: str
) -> None:
    chain = chain_of("sql_ascii", server, "SQL_ASCII")
    with chain.snapshot(engine) as snapshot:
        for ask in (lambda one: list(snapshot.read(one)), snapshot.aggregate):
            with pytest.raises(Unencodable, match=r"^bad\.w: the database has encoding SQL_ASCII") as refused:
                ask(chain.selection("bad"))
            assert "Ã" not in str(refused.value)
            assert isinstance(refused.value, RequestRejected)
    assert chain.read(engine, "bad", tenant="2")[0].num_rows == 1


@pytest.mark.parametrize("case", ["numeric_precision_is_scale", "extreme_values"])
def test_figures_rest_on_no_spelling(chain_of: Callable[..., Chain], engine: Engine, tmp_path: Path, case: str) -> None:
    chain = chain_of(case)
    for table in chain.catalog.tables:
        if table != "firms":
            require_exact(chain, engine, table, tmp_path)


@pytest.mark.parametrize(("case", "columns"), [("many_columns", 600), ("widest_table", 1598)])
def test_a_table_has_as_many_columns_as_postgresql_allows(
    chain_of: Callable[..., Chain], engine: Engine, tmp_path: Path, case: str, columns: int
) -> None:
    formats = FORMATS if engine.name == "native" else FORMATS[:1]  # the same rows
    rows = require_exact(chain_of(case), engine, f"wide_{columns}", tmp_path, formats)
    assert rows[f"c{columns}"].to_pylist() == [7]


def test_a_reader_that_cannot_join_says_what_ended_the_snapshot(chain_of: Callable[..., Chain], engine: Engine) -> None:
    chain = chain_of("many_columns")
    with chain.snapshot(engine) as snapshot:
        for ask in (
            lambda: snapshot._one(sql.SQL("SELECT 1 / 0")),
            lambda: next(snapshot.read(chain.selection("firms"))),
        ):
            with pytest.raises(RequestRejected, match="SQLSTATE 22012"):
                ask()


def test_a_fixed_length_text_has_its_blanks_wherever_it_goes(
    chain_of: Callable[..., Chain], engine: Engine, tmp_path: Path
) -> None:
    """As COPY has them; a filter compares as PostgreSQL does, which the blanks mean nothing to."""
    chain = chain_of("padded")
    rows = require_exact(chain, engine, "codes", tmp_path)
    assert cells(rows, ["code", "codes", "code_domain"]) == [("ab  ", '["ab  ",null]', "x  "), ("é   ", None, None)]
    for wanted, number in (("ab", 1), ("ab ", 1), ("é", 1), ("abc", 0)):
        condition = Condition(column="code", values=(wanted,))
        selection = replace(chain.selection("codes"), conditions=(condition,))
        with chain.snapshot(engine) as snapshot:
            assert [batch.num_rows for batch in snapshot.read(selection)] == [number] * (number > 0)
            assert snapshot.aggregate(selection).rows == number


def test_a_tenant_of_fixed_length_is_found_without_its_blanks(chain_of: Callable[..., Chain], engine: Engine) -> None:
    chain = chain_of("padded_tenant", tenant_table="shops")
    rows, _ = chain.read(engine, "sales", tenant="a")
    assert cells(rows, ["id", "shop"]) == [(1, "a   ")]


@pytest.mark.parametrize("name", ["json", "ndjson"])
def test_a_value_of_many_megabytes_is_read_back(tmp_path: Path, name: str) -> None:
    large = 40_000_000
    schema = pa.schema([field_of("id", "integer"), field_of("text", "text"), field_of("doc", "jsonb")])
    values = ([1, 2], ["a" * large, None], [None, '{"a": "' + "b" * large + '"}'])
    rows = pa.table([pa.array(column, field.type) for column, field in zip(values, schema, strict=True)], schema=schema)
    assert problems(rows, account(rows.to_batches(), schema).aggregates, (name,), tmp_path) == []


def test_totals_of_several_files_are_added_exactly() -> None:
    schema = pa.schema([field_of("n", "numeric(38,0)")])
    rows = [
        pa.record_batch([pa.array([Decimal(n)], pa.decimal128(38, 0))], schema=schema)
        for n in ("1234567890" * 3 + "12345678", "1")
    ]
    one, other = (account([batch], schema) for batch in rows)
    assert (one + other).aggregates.columns["n"].total == "1234567890" * 3 + "12345679"
    assert (one + other).aggregates == account(rows, schema).aggregates
