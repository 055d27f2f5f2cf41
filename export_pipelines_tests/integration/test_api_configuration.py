"""Filters, modules, figures and lifetimes through the API, in the whole application."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from export_pipelines.api.app import create_app
from export_pipelines.core.access import Caller, Role
from export_pipelines_tests.workshop import TENANTS, Workshop

JOBS = "/api/v1/exports/jobs"
Ask = Callable[..., httpx.Response]


@pytest.fixture
def app(workshop: Workshop) -> Iterator[FastAPI]:
    made = create_app(workshop.settings)
    services = made.state.services.having(
        authenticate=lambda role, _ip: Caller(role=Role(role), tenant_id=TENANTS[0], user_id="ann", credential="key"),
    )
    made.state.services = services
    services.pool.open()
    yield made
    services.close()


@pytest.fixture
def ask(app: FastAPI) -> Ask:
    """``ask(role, method, path, **options)``."""

    def send(role: str, method: str, path: str, **options: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, headers={"Authorization": role}, **options)

        return asyncio.run(sent())

    return send


def hours_between(start: str, end: str) -> float:
    lifetime = dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)
    return round(lifetime / dt.timedelta(hours=1), 2)


def test_the_answer_says_what_filters_and_figures_came_to_mean(ask: Ask) -> None:
    config = {
        "data_sources": [
            {"type": "pets", "filters": {"species": ["dog", None], "ids": "00000000-0000-4000-8000-00000000000A"}},
            {"type": "invoices", "aggregation": "weekly", "fields": ["revenue"]},
        ],
        "format": "csv",
    }
    for path in (JOBS, "/api/v1/exports/estimate"):
        answer = ask("member", "POST", path, json=config)
        assert answer.status_code in (200, 202), answer.text
        pets, invoices = answer.json()["resolved"]["tables"]
        assert pets["filters"] == {"species": ["dog", None], "id": ["00000000-0000-4000-8000-00000000000a"]}
        assert (invoices["aggregation"], invoices["columns"]) == ("weekly", ["period_start", "revenue"])


@pytest.mark.parametrize(
    ("filters", "field"),
    [({"password_hash": "x"}, "filters.password_hash"), ({"id": "x"}, "filters.id"), ({"nme": "x"}, "filters.nme")],
)
def test_a_filter_that_cannot_be_is_a_problem_with_its_field(ask: Ask, filters: dict[str, str], field: str) -> None:
    answer = ask("admin", "POST", JOBS, json={"tables": ["profiles"], "filters": filters, "format": "csv"})
    assert answer.status_code == 422
    assert field in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_module_is_ordered_and_found_by_its_tables(workshop: Workshop, ask: Ask) -> None:
    answer = ask("member", "POST", JOBS, json={"modules": ["people"], "format": "csv"})
    tables = [table["table"] for table in answer.json()["resolved"]["tables"]]
    assert tables == ["clinics", "clients"]  # profiles are the admins'
    (listed,) = ask("member", "GET", JOBS, params={"table": "clients"}).json()["jobs"]
    assert (listed["job_id"], listed["modules"]) == (answer.json()["job_id"], ["people"])
    assert ask("member", "GET", JOBS, params={"table": "pets"}).json()["jobs"] == []
    workshop.run(listed["job_id"])
    assert ask("member", "GET", f"{JOBS}/{listed['job_id']}").json()["status"] == "completed"


def test_the_answers_to_orders_say_what_they_are_called(ask: Ask) -> None:
    for body, name in (({}, "Full backup"), ({"name": "Before the move"}, "Before the move")):
        made = ask("admin", "POST", "/api/v1/exports/bulk", json={"export_type": "full_backup", **body})
        assert made.json()["name"] == name, made.text
    single = ask("member", "POST", JOBS, json={"tables": ["pets"], "format": "csv", "name": "Pets"})
    assert single.json()["name"] == "Pets"


def test_tables_without_a_time_column_are_named_in_the_answer_the_estimate_and_the_package(
    workshop: Workshop, ask: Ask
) -> None:
    filters: dict[str, Any] = {"date_range": {"start": "2024-01-01", "end": "2024-12-31"}}
    config = {"tables": ["appointments", "products"], "filters": filters, "format": "csv"}
    answers = [ask("member", "POST", path, json=config).json() for path in (JOBS, "/api/v1/exports/estimate")]
    for resolved in (answer["resolved"] for answer in answers):
        assert (resolved["whole_tables"], resolved["tables_left_out"]) == (["products"], [])
        assert "up to, not including, 2024-12-31; to include 2024-12-31, set the end to 2025" in resolved["period"]
        assert [table["period"] for table in resolved["tables"]] == [resolved["period"], None]
    job_id = answers[0]["job_id"]
    workshop.run(job_id)
    (path,) = workshop.package(workshop.services.requests.get(job_id)).rglob("README.md")
    text = path.read_text()
    assert "- **Period:** 1 January 2024 to 30 December 2024, both days included; all of products, whatever" in text
    assert "Holds all rows, since the date range does not apply to it." in text

    filters["whole_tables"] = "leave_out"
    answer = ask("member", "POST", "/api/v1/exports/estimate", json=config).json()
    assert (answer["resolved"]["whole_tables"], answer["resolved"]["tables_left_out"]) == ([], ["products"])
    (left_out,) = [table for table in answer["left_out"]["other_tables"] if table["name"] == "products"]
    assert left_out["cause"] == "no_time_column"


def test_the_catalog_lists_modules_measures_and_what_can_be_filtered_on(ask: Ask) -> None:
    shown = {role: ask(role, "GET", "/api/v1/exports/catalog").json() for role in ("member", "admin")}
    assert shown["member"]["modules"]["people"] == ["clinics", "clients"]
    assert shown["admin"]["modules"]["people"] == ["clinics", "profiles", "clients"]
    assert shown["member"]["aggregations"] == ["hourly", "daily", "weekly", "monthly"]
    tables = {table["name"]: table for table in shown["member"]["tables"]}
    assert [measure["name"] for measure in tables["appointments"]["measures"]] == [
        "appointments",
        "pets",
        "first_start",
    ]
    filterable = {column["name"]: column["filterable"] for column in tables["clients"]["columns"]}
    assert (filterable["city"], filterable["national_id"]) == (True, False)


def test_a_link_lasts_as_long_as_the_order_said_of_downloads(workshop: Workshop, ask: Ask) -> None:
    config = {
        "tables": ["products"],
        "format": "csv",
        "delivery": [{"method": "download", "link_ttl_hours": 3}],
    }
    job = ask("member", "POST", JOBS, json=config).json()["job_id"]
    workshop.run(job)
    hours = []
    for wanted in ({}, {"ttl_hours": 5}):
        link = ask("member", "POST", f"{JOBS}/{job}/share", json=wanted).json()
        hours.append(hours_between(link["created_at"], link["expires_at"]))
    assert hours == [3, 5]
