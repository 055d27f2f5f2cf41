"""The README's five steps, run as they stand there, against a database this project has never seen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines_tests.architecture.test_docs import ROOT, blocks

pytestmark = pytest.mark.process

LOGIN = "export_login"
APPLICATION = """
CREATE TABLE organisations (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id bigint PRIMARY KEY, organisation_id bigint NOT NULL REFERENCES organisations,
    placed_at timestamptz NOT NULL, total numeric(12,2) NOT NULL, api_token text);
CREATE TABLE invoices (
    id bigint PRIMARY KEY, organisation_id bigint NOT NULL REFERENCES organisations, order_id bigint REFERENCES orders);
INSERT INTO organisations VALUES (4711, 'Ours'), (4712, 'Theirs');
INSERT INTO orders
    SELECT n, 4711 + n % 2, now() - n * interval '1 day', n / 7.0, 'secret' FROM generate_series(1, 100) n;
INSERT INTO invoices SELECT n, 4711 + n % 2, n FROM generate_series(1, 100) n;
"""


class Reader:
    """Follows the README: runs its shell blocks with this machine's addresses in place of the examples."""

    def __init__(self, folder: Path, addresses: dict[str, str]) -> None:
        self._folder = folder
        self._addresses = addresses
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("EXPORT_", "DAGSTER_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{outside['PATH']}"
        self.environment = {**outside, "PATH": path, "EXPORT_HOME": str(folder / "home")}

    def run(self, block: str) -> str:
        """Standard output; what the block exports stays exported for the next."""
        for example, address in self._addresses.items():
            block = block.replace(example, address)
        self.environment |= dict(re.findall(r"^export (\w+)=(\S+)$", block, re.MULTILINE))
        kept = [line for line in block.splitlines() if line != "export-pipelines up"]  # it would stay
        script, environment = "\n".join(kept), self.environment
        done = subprocess.run(
            ["bash", "-euc", script], cwd=self._folder, env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def application(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> Iterator[str]:
    """A stranger's database; the login that the steps make is gone afterwards."""
    url = database("app")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(APPLICATION)
        yield url
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(LOGIN)))


@pytest.mark.timeout(300)
def test_the_five_steps_of_the_readme_end_in_a_verified_package(
    application: str, postgres: EmbeddedPostgres, database: Callable[[str], str], tmp_path: Path
) -> None:
    steps = (ROOT / "README.md").read_text("utf-8").partition("## Your own database")[2].partition("\n## ")[0]
    propose, protect, check, export = blocks(steps, "sh")
    name = urlsplit(application).path.removeprefix("/")
    reader = Reader(
        tmp_path,
        {
            "postgresql://admin:…@db.example.com/app": application,
            "postgresql://export_login:…@db.example.com/app": postgres.url(name, user=LOGIN, password="chosen"),
            "postgresql://export_service:…@db.example.com/export_control": database("own_control"),
        },
    )
    reader.run(propose)
    (create,) = re.findall(r"^CREATE ROLE .* PASSWORD '…';$", reader.run(protect), re.MULTILINE)
    with psycopg.connect(application, autocommit=True) as connection:
        connection.execute(create.replace("…", "chosen").encode())
    assert "0 errors" in reader.run(check)
    assert re.search(r"valid: export .* 100 rows re-read", reader.run(export))
    manifest = json.loads((tmp_path / "for-4711" / "manifest.json").read_text())
    assert manifest["export"]["tenant_id"] == "4711"
    omitted = {
        table["name"]: {column["name"] for column in table["left_out"]["columns"]} for table in manifest["tables"]
    }
    assert omitted == {
        "orders": {"api_token"},
        "invoices": set(),
    }
