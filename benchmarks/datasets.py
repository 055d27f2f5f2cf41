"""The data that is measured: a server of the benchmark's own, and a database for each table and size.

All but a few rows belong to one tenant; the second tenant is there so that isolation has something to keep away.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import yaml
from psycopg import sql

from export_pipelines.catalog.load import load_catalog
from export_pipelines.catalog.rls import apply_rls, login_sql
from export_pipelines.core.catalog import Catalog
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.stores.migrate import migrate

CATALOG = Path(__file__).with_name("catalog.yaml")
TENANTS = tuple(f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2))
TENANT, NEIGHBOUR = TENANTS
NEIGHBOUR_ROWS = 500
MONTHS = 96  # over which the rows of a table spread
TABLES = ("inv", "act")
ROW_BYTES = {"inv": 200, "act": 700}  # in the database with its indexes, for the question whether there is room
KEPT_ROWS = 4_000_000  # larger databases are dropped after use
_LOGIN = "bench_login"
_CONTROL = "control"
_CHUNK_ROWS = 1_000_000


class NotEnoughSpace(Exception):
    """The disk has too little room for a dataset and what is made from it."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One table with its rows, ready to be read."""

    table: str
    rows: int
    admin_url: str
    environment: dict[str, str]  # settings for a process of the product

    @property
    def query(self) -> str:
        """The tenant's rows with the columns the product exports, for programs that take SQL."""
        columns = ", ".join(load_catalog(CATALOG).tables[self.table].exported_columns)
        return f"SELECT {columns} FROM bench.{self.table} WHERE org_id = '{TENANT}'"


class Laboratory:
    """The server, the homes of measured processes and the databases."""

    def __init__(self, home: Path, server: EmbeddedPostgres) -> None:
        self.home = home
        self.server = server

    @property
    def scratch(self) -> Path:
        """Where measured programs write; emptied after each of them."""
        return self.home / "scratch"

    @contextmanager
    def dataset(self, table: str, rows: int, *, months: int = MONTHS, copies: int = 0) -> Iterator[Dataset]:
        """The rows, loaded unless an earlier suite left them; large ones are dropped at the end.

        With ``copies`` the product's catalog has the table that many times, under other names, and no other table.
        """
        catalog = self._repeated(table, copies) if copies else CATALOG
        name = f"{table}_{rows}_{months}"
        if not self._exists(name):
            self._require_room(table, rows)
            self._load(name, table, rows, months)
        try:
            yield Dataset(
                table=table, rows=rows, admin_url=self.server.url(name), environment=self._environment(name, catalog)
            )
        finally:
            if rows > KEPT_ROWS:
                self._drop(name)

    def _repeated(self, table: str, copies: int) -> Path:
        described = yaml.safe_load(CATALOG.read_text("utf-8"))
        repeated = {**described["tables"][table], "source": f"bench.{table}"}
        described["tables"] = {f"{table}_{number}": repeated for number in range(1, copies + 1)}
        path = self.home / f"{table}-{copies}.yaml"
        path.write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
        return path

    def _environment(self, name: str, catalog: Path) -> dict[str, str]:
        self.server.ensure_database(_CONTROL)
        control = self.server.url(_CONTROL)
        migrate(control)
        inherited = {key: value for key, value in os.environ.items() if not _is_address(key)}
        return {
            **inherited,
            "EXPORT_HOME": str(self.home / "product"),
            "EXPORT_SOURCE_URL": self.server.url(name, user=_LOGIN, password=_LOGIN),
            "EXPORT_CONTROL_URL": control,
            "EXPORT_CATALOG": str(catalog),
            "EXPORT_SECRET_KEY": _SECRET_KEY,
        }

    def _load(self, name: str, table: str, rows: int, months: int) -> None:
        self.server.ensure_database(f"{name}_unfinished")
        with psycopg.connect(self.server.url(f"{name}_unfinished"), autocommit=True) as connection:
            connection.execute(Path(__file__).with_name("schema.sql").read_bytes())
            fill = sql.SQL("CALL bench.{}(%s, %s, %s, %s)").format(sql.Identifier(f"fill_{table}"))
            for first in range(0, rows, _CHUNK_ROWS):
                connection.execute(fill, [TENANT, first, min(_CHUNK_ROWS, rows - first), months])
            connection.execute(fill, [NEIGHBOUR, rows, NEIGHBOUR_ROWS, months])
            for each in TABLES:
                connection.execute("CALL bench.index_rows(%s)", [each])
            secure(connection, load_catalog(CATALOG))
            connection.execute("VACUUM (FREEZE, ANALYZE)")
            connection.execute("CHECKPOINT")
        self._execute(sql.SQL("ALTER DATABASE {} RENAME TO {}"), f"{name}_unfinished", name)

    def _require_room(self, table: str, rows: int) -> None:
        """Three times the rows: the database, and a stage and a package of them."""
        needed, free = 3 * rows * ROW_BYTES[table], shutil.disk_usage(self.home).free
        if needed > free:
            raise NotEnoughSpace(
                f"{rows:,} rows of {table} need {needed / 1e9:.0f} GB, {self.home} has {free / 1e9:.0f} GB"
            )

    def _exists(self, name: str) -> bool:
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(f"{name}_unfinished"))
            )
            return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None

    def _drop(self, name: str) -> None:
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)"), name)

    def _execute(self, statement: sql.SQL, *names: str) -> None:
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.format(*map(sql.Identifier, names)))


@contextmanager
def laboratory(home: Path, *, keep: bool = False) -> Iterator[Laboratory]:
    """A server in ``home`` that ends with the context, with its databases unless they are to be kept."""
    home.mkdir(parents=True, exist_ok=True)
    server = EmbeddedPostgres(home)
    server.start()
    try:
        yield Laboratory(home, server)
    finally:
        server.stop()
        if not keep:
            server.delete_data()


def secure(connection: psycopg.Connection, catalog: Catalog) -> None:
    """Policies, forced, as the product wants them, and the login it connects with."""
    apply_rls(connection, catalog, force=True)
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [_LOGIN]).fetchone() is None:
        for statement in login_sql(catalog, _LOGIN):
            connection.execute(statement.encode())
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(_LOGIN), sql.Literal(_LOGIN)))


# Homes come and go while the control database, with the signing key that this one seals, stays.
_SECRET_KEY = base64.b64encode(bytes(32)).decode()


def _is_address(variable: str) -> bool:
    """Variables that would lead a measured process to other data; EXPORT_DECODER and its like pass."""
    return variable in (
        "EXPORT_HOME",
        "EXPORT_SOURCE_URL",
        "EXPORT_CONTROL_URL",
        "EXPORT_CATALOG",
        "EXPORT_STORAGE_URL",
    )
