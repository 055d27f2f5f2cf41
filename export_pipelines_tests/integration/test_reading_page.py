"""`docs/reading-packages.md` is a notebook: every input is run, every output is what it says."""

from __future__ import annotations

import doctest
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.packaging.key_sets import key_set
from export_pipelines.settings import Settings
from export_pipelines_tests.architecture.test_docs import blocks
from export_pipelines_tests.host import CASES
from export_pipelines_tests.workshop import login_url, open_workshop

PAGE = Path(__file__).parents[2] / "docs" / "reading-packages.md"
PASSWORD = "Tr0ub4dor & 3 staples"
ORDER: dict[str, Any] = {"name": "Orders of Lisboa", "tables": ["orders", "returns"]}
PACKAGES: dict[str, dict[str, Any]] = {
    "orders-of-lisboa": {"format": "csv", "compression": "gzip", "split_files": {"split_by": "month"}},
    "export-378259ff.zip": {"format": "parquet", "encryption": {"method": "AES256", "password": PASSWORD}},
}
_OF_ITS_TIME = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"), "INSTANT"),  # of a snapshot
    (re.compile(r"'[0-9a-f]{16}'"), "'KEY'"),
)


class Checker(doctest.OutputChecker):
    """What differs from one making of the packages to the next is taken for the same."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        for pattern, name in _OF_ITS_TIME:
            want, got = pattern.sub(name, want), pattern.sub(name, got)
        return super().check_output(want, got, optionflags)


@pytest.fixture
def folder(postgres: EmbeddedPostgres, database: Callable[[str], str], control_url: str, tmp_path: Path) -> Path:
    """The packages of the page and the keys of who made them, in a folder of the reader's."""
    url, home, folder = database("reading_page"), tmp_path / "home", tmp_path / "downloads"
    folder.mkdir()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((CASES / "reading_page.sql").read_bytes())
        catalog = reflect(connection, name="shop", tenant_table="shops").catalog
        apply_rls(connection, catalog)
    (tmp_path / "catalog.yaml").write_text(catalog.model_dump_json(by_alias=True, exclude_defaults=True))
    settings = Settings(
        EXPORT_SOURCE_URL=login_url(postgres, url, catalog.reader_role),
        EXPORT_CONTROL_URL=control_url,
        EXPORT_HOME=home,
        EXPORT_CATALOG=tmp_path / "catalog.yaml",
    )
    with open_workshop(settings, catalog) as workshop:
        for name, form in PACKAGES.items():
            done = workshop.export({**ORDER, **form}, tenant="lisboa")
            assert (done.status, done.error_message) == ("completed", None)
            made = workshop.package(done)
            shutil.copytree(made, folder / name) if "." not in name else shutil.copy(
                next(made.glob("*.zip")), folder / name
            )
        (folder / "keys.json").write_text(json.dumps(key_set(workshop.services.signing.published())))
    return folder


def test_every_output_of_the_page_is_what_its_input_prints(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PASSWORD", PASSWORD)
    source = "\n\n".join(blocks(PAGE.read_text("utf-8"), "pycon"))
    test = doctest.DocTestParser().get_doctest(source, {}, PAGE.name, str(PAGE), 0)
    told: list[str] = []
    runner = doctest.DocTestRunner(checker=Checker(), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    found = runner.run(test, out=told.append)
    assert found.failed == 0, "".join(told)
    assert found.attempted > 20
