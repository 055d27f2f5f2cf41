"""A host application's database and the service's commands beside it, as an operator sets them up."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
import yaml
from psycopg import sql

from export_pipelines_tests.commands import Answer, run_command
from export_pipelines_tests.workshop import login_url

CASES = Path(__file__).with_name("cases")

_numbers = itertools.count(1)


class Server(Protocol):
    """A PostgreSQL server, embedded or Debian's."""

    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Host:
    """A source database, the environment of the service beside it, and a folder to work in."""

    admin_url: str
    environment: dict[str, str]
    folder: Path
    server: Server

    @property
    def catalog(self) -> Path:
        return self.folder / "catalog.yaml"

    def run(self, *arguments: str, code: int = 0, **environment: str) -> Answer:
        """Run the command; its exit code must be ``code``."""
        answer = run_command(*arguments, folder=self.folder, environment=self.environment | environment)
        assert answer.code == code, f"{arguments}: exit {answer.code}\n{answer.stdout}\n{answer.stderr}"
        assert "Traceback" not in answer.stderr
        return answer

    def document(self) -> dict[str, Any]:
        """The catalog file as it is."""
        return dict(yaml.safe_load(self.catalog.read_text()))

    def save(self, document: dict[str, Any]) -> None:
        """Replace the catalog file."""
        self.catalog.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))

    def propose_catalog(self, name: str, *options: str) -> None:
        """`catalog init`, with a reader role that no other database of the server has."""
        self.run("catalog", "init", "--name", name, "--admin-url", self.admin_url, "--out", "catalog.yaml", *options)
        self.environment["EXPORT_CATALOG"] = str(self.catalog)
        document = self.document()
        document["reader_role"] = f"{name}_{os.getpid()}_{next(_numbers)}_reader"
        self.save(document)

    def apply_policies(self) -> None:
        """`catalog rls --apply`, and the login that the service reads with."""
        self.run("catalog", "rls", "--apply", "--admin-url", self.admin_url)
        self.environment["EXPORT_SOURCE_URL"] = login_url(self.server, self.admin_url, self.document()["reader_role"])

    def export(self, tenant: str, *options: str, tables: str | None = None, to: str = "package") -> dict[str, Any]:
        """Export to the folder ``to`` and verify it; the manifest. All tables that are not shared by default."""
        listed = [(name, table) for name, table in self.document()["tables"].items() if table.get("export", True)]
        tables = tables or ",".join(name for name, table in listed if "shared" not in table["tenant"])
        self.run("export", "--tenant", tenant, "--tables", tables, "--output", to, *options)
        self.run("verify", to)
        return dict(json.loads((self.folder / to / "manifest.json").read_text()))


def create_database(server: Server, name: str, encoding: str = "UTF8") -> str:
    """An empty database of that encoding; its superuser URL."""
    unique = f"{name}_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        locale = sql.SQL(" TEMPLATE template0 ENCODING {} LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'")
        suffix = sql.SQL("") if encoding == "UTF8" else locale.format(sql.Literal(encoding))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unique)) + suffix)
    url = server.url(unique)
    assert urlsplit(url).path == f"/{unique}"
    return url


def host_of(script: str, *, server: Server, control_url: str, folder: Path, encoding: str = "UTF8") -> Host:
    """A new database of the server with the tables of a case (`cases/<script>.sql`); no catalog yet."""
    admin_url = create_database(server, script, encoding)
    with psycopg.connect(admin_url, autocommit=True, client_encoding="UTF8") as connection:
        connection.execute((CASES / f"{script}.sql").read_bytes())
    environment = {"EXPORT_CONTROL_URL": control_url, "EXPORT_HOME": str(folder / "home")}
    return Host(admin_url=admin_url, environment=environment, folder=folder, server=server)
