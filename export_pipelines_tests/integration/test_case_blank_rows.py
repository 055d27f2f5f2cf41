"""CSV packages of rows without values and columns with odd names, as tools of strangers read and validate them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
import pyarrow.csv
import pytest

from export_pipelines_tests.host import Host


@pytest.fixture
def host(case_host: Callable[..., Host]) -> Host:
    made = case_host("blank_rows")
    made.propose_catalog("blank", "--tenant-table", "public.firms")
    document = made.document()
    document["tables"]["things"]["columns"]["word"]["label"] = "The word"
    made.save(document)
    made.apply_policies()
    return made


def validated(folder: Path) -> dict[str, Any]:
    """The resource of the one table, which Frictionless finds nothing wrong with."""
    from frictionless import Package, system

    with system.use_context(trusted=True):
        report = Package(str(folder / "datapackage.json")).validate()
    assert report.valid, report.flatten(["rowNumber", "fieldName", "type", "message"])
    (resource,) = json.loads((folder / "datapackage.json").read_text())["resources"]
    return dict(resource)


def test_frictionless_validates_every_csv_package(host: Host) -> None:
    exports: dict[str, tuple[str, ...]] = {
        "word": ("--fields", "things:word"),
        "sparse": ("--fields", "things:word,number"),
        "all": (),
        "labels": ("--option", "headers=labels"),
        "excel": ("--option", "csv_profile=excel"),
        "nothing": ("--filter", "things:word=none", "--option", "headers=labels"),
    }
    blank = {"word", "sparse"}
    for name, options in exports.items():
        host.run("export", "--tenant", "1", "--tables", "things", "--format", "csv", "--output", name, *options)
        resource = validated(host.folder / name)
        assert resource.get("dialect", {}).get("skipBlankRows", False) == (name in blank)
    lines = (host.folder / "word" / "data" / "things.csv").read_bytes().split(b"\r\n")
    assert lines == [b"word", b"a", b"", b'""', rb'"\."', b""]
    readme = (host.folder / "word" / "README.md").read_text()
    assert "`things` has 1 empty lines, which are rows whose only value is NULL." in readme
    assert "empty lines" not in (host.folder / "sparse" / "README.md").read_text()
    assert_read_by_strangers(host.folder / "word" / "data" / "things.csv", host.admin_url)


def assert_read_by_strangers(path: Path, url: str) -> None:
    """As the README says, each of them finds every row."""
    words = ["a", None, "", r"\."]
    options = pyarrow.csv.ParseOptions(ignore_empty_lines=False)
    convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    arrow = pyarrow.csv.read_csv(path, parse_options=options, convert_options=convert)
    assert arrow["word"].to_pylist() == words
    assert pl.read_csv(path)["word"].to_list() == words
    with duckdb.connect() as session:
        found = session.execute("SELECT word FROM read_csv($1)", [str(path)]).fetchall()
        assert found == [("a",), (None,), (None,), (r"\.",)]  # it tells no empty text from NULL, but counts every row
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TEMP TABLE found (word text)")
        with connection.cursor() as cursor, cursor.copy("COPY found FROM STDIN WITH (FORMAT csv, HEADER)") as copy:
            copy.write(path.read_bytes())
        assert [word for (word,) in connection.execute("SELECT word FROM found")] == words
