"""Estimates, the state of the queue and metrics as the API tells them, in the whole application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from export_pipelines.api.app import create_app
from export_pipelines.core.access import Caller, Role
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.workshop import TENANTS, Workshop

ORDER: dict[str, Any] = {"tables": ["pets", "lab_results"], "format": "csv", "compression": "gzip"}
CALLERS = {
    "ann": Caller(role=Role.MEMBER, tenant_id=TENANTS[0], user_id="ann", credential="key"),
    "admin": Caller(role=Role.ADMIN, tenant_id=TENANTS[0], user_id="admin", credential="key"),
    "stranger": Caller(role=Role.ADMIN, tenant_id=TENANTS[1], user_id="eve", credential="key"),
    "operator": Caller(role=Role.OPERATOR, credential="key"),
}
Ask = Callable[..., httpx.Response]


@pytest.fixture
def app(workshop: Workshop) -> Iterator[FastAPI]:
    made = create_app(workshop.settings)
    services = made.state.services.having(authenticate=lambda name, _ip: CALLERS[str(name)])
    made.state.services = services
    services.pool.open()
    yield made
    services.close()


@pytest.fixture
def ask(app: FastAPI) -> Ask:
    """``ask(who, method, path, **options)``."""

    def send(who: str, method: str, path: str, **options: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                headers = {"Authorization": who, **options.pop("headers", {})}
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(sent())

    return send


def test_an_estimate_says_what_the_order_would_be_and_makes_nothing(workshop: Workshop, ask: Ask) -> None:
    done = workshop.export(ORDER)
    mail = {"method": "email", "recipients": ["ann@example.com"]}
    answer = ask("ann", "POST", "/api/v1/exports/estimate", json={**ORDER, "delivery": [mail]})
    assert answer.status_code == 200, answer.text
    reported = answer.json()
    assert reported["estimated_rows"] == done.package_rows
    assert reported["estimated_size_mb"] == pytest.approx(done.package_bytes / 1e6, rel=0.3)
    assert (reported["basis"], [table["table"] for table in reported["tables"]]) == ("past_exports", ORDER["tables"])
    assert (reported["recipients"], reported["past_error"]) == (["ann@example.com"], None)
    assert set(reported["classes"]) <= {"public", "internal", "personal", "identifier", "sensitive"}
    assert len(workshop.services.requests.list()) == 1


def test_an_order_carries_the_estimate(workshop: Workshop, ask: Ask) -> None:
    answer = ask("ann", "POST", "/api/v1/exports/jobs", json=ORDER)
    assert answer.status_code == 202, answer.text
    reported = answer.json()
    request = workshop.services.requests.get(reported["job_id"])
    assert reported["estimated_rows"] == request.estimated_rows == request.total_rows
    assert reported["estimated_rows"] > 0
    assert reported["estimated_time_seconds"] == request.estimated_seconds


def test_an_order_does_not_wait_for_a_source_that_is_away(app: FastAPI, ask: Ask) -> None:
    app.state.services = app.state.services.having(source=None)
    assert ask("ann", "POST", "/api/v1/exports/jobs", json=ORDER).json()["estimated_rows"] is None
    assert ask("ann", "POST", "/api/v1/exports/estimate", json=ORDER).status_code == 503


@pytest.mark.parametrize(
    ("who", "order", "status"),
    [
        ("ann", {**ORDER, "tables": ["petz"]}, 422),
        ("ann", {**ORDER, "convert": "0190b6c4-0000-7000-8000-000000000001"}, 422),
        ("operator", ORDER, 403),
    ],
)
def test_an_estimate_refuses_what_an_order_would(ask: Ask, who: str, order: dict[str, Any], status: int) -> None:
    estimated = ask(who, "POST", "/api/v1/exports/estimate", json=order)
    ordered = ask(who, "POST", "/api/v1/exports/jobs", json=order)
    assert (estimated.status_code, ordered.status_code) == (status, status), (estimated.text, ordered.text)
    assert estimated.json()["detail"] == ordered.json()["detail"] or status == 403


def test_an_order_that_is_refused_leaves_its_line_in_the_audit_log(workshop: Workshop, ask: Ask) -> None:
    assert ask("ann", "POST", "/api/v1/exports/jobs", json={**ORDER, "tables": ["petz"]}).status_code == 422
    with closing(ControlDatabase(workshop.settings.require_control_url())) as control:
        (line,) = control.rows("SELECT action, outcome::text FROM export_control.audit_log")
    assert (line["action"], line["outcome"]) == ("export.create", "refused")


def test_a_conversion_of_a_stranger_has_no_estimate(workshop: Workshop, ask: Ask) -> None:
    done = workshop.export(ORDER)
    order = {"convert": done.id, "format": "parquet"}
    assert ask("admin", "POST", "/api/v1/exports/estimate", json=order).json()["estimated_rows"] == done.package_rows
    assert ask("stranger", "POST", "/api/v1/exports/estimate", json=order).status_code == 404


def test_each_role_sees_its_part_of_the_queue(workshop: Workshop, ask: Ask) -> None:
    workshop.order(ORDER)
    workshop.order(ORDER, TENANTS[1])
    path = "/api/v1/exports/queue/stats"

    def depth(who: str, **named: Any) -> Any:
        answer = ask(who, "GET", path, **named)
        return answer.json()["depth"]["queued"] if answer.is_success else answer.status_code

    assert (depth("operator"), depth("admin"), depth("stranger"), depth("ann")) == (2, 1, 1, 403)
    assert depth("operator", params={"tenant": TENANTS[1]}) == 1
    assert depth("admin", params={"tenant": TENANTS[1]}) == 404


def test_metrics_are_for_operators_in_both_dialects(workshop: Workshop, ask: Ask) -> None:
    workshop.export(ORDER)
    assert {who: ask(who, "GET", "/metrics").status_code for who in ("ann", "admin")} == {"ann": 403, "admin": 403}
    plain = ask("operator", "GET", "/metrics", headers={"Accept": "text/plain"})
    modern = ask("operator", "GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    old = {family.name for family in parser.text_string_to_metric_families(plain.text)}
    new = {family.name for family in openmetrics.text_string_to_metric_families(modern.text)}
    assert {name.removesuffix("_info") for name in old} == new
    assert all(re.fullmatch(r"export_pipelines_[a-z]+(_[a-z]+)*", name) for name in new)


def test_a_flood_of_estimates_leaves_connections_to_others(app: FastAPI, ask: Ask, workshop: Workshop) -> None:
    """The source is asked when the transaction in the control database has ended."""
    held: list[bool] = []
    source, pool = app.state.services.source, ControlPool(workshop.settings.require_control_url(), connections=1)

    class Watched:
        def snapshot(self, *given: Any, **named: Any) -> Any:
            with pool.tenant_session(None) as control:  # the only connection there is
                held.append(bool(control.rows("SELECT 1")))
            return source.snapshot(*given, **named)

    before = app.state.services.pool
    pool.open()
    app.state.services = app.state.services.having(source=Watched(), pool=pool)
    try:
        assert ask("ann", "POST", "/api/v1/exports/estimate", json=ORDER).status_code == 200
    finally:
        pool.close()
        app.state.services = app.state.services.having(pool=before)
    assert held == [True]
