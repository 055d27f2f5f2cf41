"""The commands of an operator say what an export of a small foreign database leaves out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from export_pipelines_tests.host import Host

MARKED = "22 of 30 customers are marked as deleted (`deleted_at`) and are not in this export"


@pytest.fixture
def host(case_host: Callable[..., Host]) -> Host:
    """The catalog is older than a column and a table."""
    made = case_host("left_out")
    made.propose_catalog("firms", "--tenant-table", "public.firms")
    document = made.document()
    document["timezone"] = "Europe/Berlin"
    document["tables"]["visits"]["time_column"] = "visited_on"
    made.save(document)
    made.apply_policies()
    with psycopg.connect(made.admin_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE customers ADD COLUMN nickname text; CREATE TABLE loyalty_cards (id int)")
    return made


def _json(host: Host, *arguments: str) -> dict[str, Any]:
    reported: dict[str, Any] = json.loads(host.run(*arguments, "--json").stdout)
    return reported


def test_rows_columns_and_tables_that_are_missing_are_named_by_every_command(host: Host) -> None:
    options = ("--tenant", "1", "--format", "csv", "--tables")
    window = ("--from", "2024-01-10T12:00:00Z", "--to", "2024-02-01")
    foreseen = _json(host, "estimate", *options, "customers")["left_out"]
    done = _json(host, "export", *options, "customers", "--output", "customers")
    assert foreseen["tables"][0]["deleted"] == done["left_out"]["tables"][0]["deleted"]
    assert any(MARKED in sentence for sentence in done["left_out"]["summary"])
    assert done["left_out"]["tables"][0]["columns"] == [{"name": "nickname", "cause": "not_in_catalog", "reason": None}]
    causes = {table["name"]: table["cause"] for table in done["left_out"]["other_tables"]}
    assert causes == {
        "firms": "not_requested",
        "visits": "not_requested",
        "public.loyalty_cards": "not_in_catalog",
    }
    assert f"- {MARKED}; ask with include_deleted to get them.\n" in (host.folder / "customers/README.md").read_text()
    assert MARKED in host.run("requests", "show", done["id"]).stdout

    said = host.run("export", *options, "visits", *window, "--output", "visits").stdout
    assert "8 of 16 matching visits are marked as deleted" in said
    assert "Covers 8 of 40 rows in all." in said
    (visits,) = json.loads((host.folder / "visits/manifest.json").read_text())["tables"]
    # From noon on, so that the day itself is not whole and the next is the first.
    assert visits["left_out"]["window"] == {
        "column": "visited_on",
        "start": "2024-01-11",
        "end": "2024-02-01",
        "rows_without_time": False,
    }
    assert "rows without `visited_on` are not in it" in (host.folder / "visits/README.md").read_text()

    backup = _json(
        host, "bulk", "--type", "full_backup", "--tenant", "1", "--no-include-deleted", "--output", "backup"
    )["left_out"]
    assert {
        table["table"]: table["deleted"] and table["deleted"]["left_out"]["rows"] for table in backup["tables"]
    } == {
        "firms": None,
        "customers": 22,
        "visits": 20,
    }
    assert [table["name"] for table in backup["other_tables"]] == ["public.loyalty_cards"]
    host.run("verify", "backup")

    converted = _json(host, "convert", done["id"], "--tenant", "1", "--format", "ndjson")["left_out"]
    assert converted == done["left_out"]
    manifest = json.loads((host.folder / "customers/manifest.json").read_text())
    manifest["tables"][0]["left_out"] = {}
    (host.folder / "customers/manifest.json").write_text(json.dumps(manifest))
    problem = "customers: the manifest does not state what was left out"
    assert problem in host.run("verify", "customers", code=3).stdout
