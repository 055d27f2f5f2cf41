"""The catalog as a file: what is written is read back, and what is wrong is said with its place."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from export_pipelines.catalog.load import catalog_schema, dump_catalog, load_catalog
from export_pipelines.core.catalog import (
    Catalog,
    Classification,
    Column,
    Grain,
    Partition,
    Relation,
    Table,
    TenantPath,
    TenantRoot,
)
from export_pipelines.core.errors import RequestRejected
from export_pipelines_tests.lanes import examples

ROOT = Path(__file__).parents[2]

CLINIC = """
version: 1
name: clinic
history_start: 2021-03-01
tenant: {table: public.clinics, key: id, type: uuid}
tables:
  pets:
    tenant: {column: clinic_id}
    columns:
      id: {type: uuid, nullable: false}
      clinic_id: {type: uuid, nullable: false}
      no: {type: varchar(20)}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(RequestRejected) as caught:
        load_catalog(write(folder, text))
    return str(caught.value)


def test_a_minimal_catalog_is_read_with_its_defaults(tmp_path: Path) -> None:
    catalog = load_catalog(write(tmp_path, CLINIC))
    assert catalog.history_start == dt.date(2021, 3, 1)
    assert catalog.reader_role == "export_reader"
    assert catalog.tables["pets"].columns["id"] == Column(type="uuid", nullable=False)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    before = load_catalog(write(tmp_path, CLINIC))
    assert load_catalog(tmp_path / "catalog.yaml") is before
    assert load_catalog(write(tmp_path, CLINIC.replace("2021", "2020"))).history_start == dt.date(2020, 3, 1)


def test_a_column_may_be_called_like_a_boolean_of_old_yaml(tmp_path: Path) -> None:
    assert load_catalog(write(tmp_path, CLINIC)).tables["pets"].columns["no"].type == "character varying(20)"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{type: uuid, nullable: false}", "{type: 7, nullable: false}", "line 10, tables.pets.columns.id.type: "),
        (
            "nullable: false",
            "nulable: false",
            "tables.pets.columns.id.nulable: is not a known key; did you mean 'nullable'?",
        ),
        (
            "    columns:\n",
            "    updated_column: id\n    columns:\n",
            "line 9, tables.pets.updated_column: is never read; delete the line",
        ),
        ("key: id, ", "keys: id, ", "line 5, tenant.keys: is not a known key; did you mean 'key'?"),
        ("name: clinic\n", "", "name: is required; add it"),
        ("name: clinic", "name: Clinic 7", "line 3, name: "),
        ("column: clinic_id", "column: owner_id", "tenant.column names 'owner_id', which is not among the columns"),
        ("column: clinic_id", "through: owner", "tenant.through names 'owner', which is not among the relations"),
        ("column: clinic_id", "column: clinic_id, shared: all", "name exactly one of column, through, shared"),
        ("version: 1", "version: 2", "line 2, version: Input should be 1; it is 2"),
        ("2021-03-01", "2021-13-01", "line 4, history_start: "),
        ("name: clinic\n", "name: clinic\ntenant_buckets: 0\n", "line 4, tenant_buckets: Input should be greater than"),
        ("name: clinic\n", "name: clinic\ntenant_buckets: 1001\n", "line 4, tenant_buckets: Input should be less than"),
        (
            "name: clinic\n",
            "name: clinic\ntimezone: localtime\n",
            "line 4, timezone: 'localtime' is not an IANA timezone",
        ),
        ("  pets:", "  Pets:", "table key 'Pets': use lower-case letters, digits and underscores"),
        ("public.clinics", "public.clinics, table: x", "line 5, tenant.table: is already given on line 5"),
        ("no: {", "id: {", "line 12, tables.pets.columns.id: is already given on line 10; keep one of the two"),
    ],
)
def test_a_problem_is_named_with_line_path_and_reason(tmp_path: Path, old: str, new: str, expected: str) -> None:
    message = refusal(tmp_path, CLINIC.replace(old, new, 1))
    assert expected in message
    assert "catalog.yaml" in message


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    broken = CLINIC.replace("name: clinic", "name: 'A B'").replace("column:", "colum:").replace("no: {type", "no: {typ")
    message = refusal(tmp_path, broken)
    assert "has 4 problems" in message
    for where in ("name:", "tables.pets.tenant.colum:", "tables.pets.columns.no.type:", "tables.pets.columns.no.typ:"):
        assert where in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is not a mapping"),
        ("- a\n- b\n", "is not a mapping"),
        ("a: [1, 2", "is not valid YAML"),
        ("name: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("a: &a [*a]", "name: is required"),
    ],
)
def test_a_file_that_is_no_catalog_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


def test_a_missing_file_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(RequestRejected, match="does not exist; write one with"):
        load_catalog(tmp_path / "none.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(RequestRejected, match="cannot be read as UTF-8"):
        load_catalog(tmp_path / "catalog.yaml")


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,10}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=3, max_size=30)
COLUMNS = st.builds(
    Column,
    type=st.sampled_from(["text", "numeric(10,2)", "timestamptz", "order_state", '"Mood"[]']),
    classification=st.sampled_from(Classification),
    nullable=st.booleans(),
    description=st.none() | TEXTS,
    label=st.none() | TEXTS,
    mask=st.none() | TEXTS,
)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Any valid catalog; its columns and reasons hold arbitrary text."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    tables: dict[str, Table] = {}
    for name in names:
        columns = draw(
            st.dictionaries(TEXTS | st.sampled_from(["on", "null", "1", "~"]), COLUMNS, min_size=1, max_size=4)
        )
        keys = list(columns)
        relation = Relation(
            columns=(keys[0],), references=name, referenced_columns=(keys[-1],), virtual=draw(st.booleans())
        )
        tables[name] = Table(
            primary_key=tuple(keys[:2]),
            tenant=draw(st.sampled_from([TenantPath(column=keys[0]), TenantPath(shared="the same for all")])),
            time_column=keys[-1],
            partition=Partition(grain=draw(st.sampled_from(Grain))),
            roles=draw(st.sampled_from([("admin",), ("member", "admin")])),
            columns=columns,
            relations=draw(st.sampled_from([{}, {"parent": relation}])),
        )
    return Catalog(
        name="any",
        title=draw(st.none() | TEXTS),
        history_start=draw(st.dates()),
        tenant=TenantRoot(table="public.t"),
        tables=tables,
        excluded=draw(st.dictionaries(TEXTS, TEXTS, max_size=2)),
    )


@settings(deadline=None, max_examples=examples(150))
@given(catalogs())
def test_what_is_written_is_read_back_the_same(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> None:
    assert load_catalog(write(tmp_path_factory.mktemp("dump"), dump_catalog(catalog))) == catalog


def test_a_column_is_one_line_and_defaults_are_left_out(tmp_path: Path) -> None:
    text = dump_catalog(load_catalog(write(tmp_path, CLINIC)))
    assert "      id: {type: uuid, nullable: false}\n" in text
    assert "      'no': {type: character varying(20)}\n" in text
    assert "reader_role" not in text
    assert "\nhistory_start: 2021-03-01\n" in text


def test_the_published_schema_is_the_codes() -> None:
    published = json.loads((ROOT / "docs" / "catalog.schema.json").read_text(encoding="utf-8"))
    assert published == catalog_schema(), "write docs/catalog.schema.json anew from catalog_schema()"


def test_the_published_schema_accepts_a_written_catalog_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(catalog_schema())
    content: Any = yaml.load(dump_catalog(load_catalog(write(tmp_path, CLINIC))), Loader=yaml.BaseLoader)
    content["version"] = 1
    for column in content["tables"]["pets"]["columns"].values():
        column.pop("nullable", None)
    jsonschema.validate(content, catalog_schema(), cls=jsonschema.Draft202012Validator)
    content["tables"]["pets"]["tennant"] = {}
    with pytest.raises(jsonschema.ValidationError, match="tennant"):
        jsonschema.validate(content, catalog_schema(), cls=jsonschema.Draft202012Validator)
