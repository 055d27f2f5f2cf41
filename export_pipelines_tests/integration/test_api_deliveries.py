"""Destinations and deliveries through the API, in the whole application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from export_pipelines.api.app import create_app
from export_pipelines.core.access import Caller, Role
from export_pipelines.destinations.registry import all_destinations, open_destinations
from export_pipelines.pipeline.publish.deliver import deliver_due
from export_pipelines.settings.values import NamedFolders
from export_pipelines_tests.outbox import mailing_to
from export_pipelines_tests.servers.smtp import SmtpServer
from export_pipelines_tests.workshop import TENANTS, Workshop

JOBS = "/api/v1/exports/jobs"
PETS: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
Ask = Callable[..., httpx.Response]


@pytest.fixture
def with_nas(workshop: Workshop, tmp_path: Path) -> Workshop:
    (tmp_path / "nas").mkdir()
    settings = workshop.settings.model_copy(update={"folders": NamedFolders(nas=tmp_path / "nas")})
    services = workshop.services.having(settings=settings, destinations=open_destinations(settings))
    return replace(workshop, settings=settings, services=services)


@pytest.fixture
def app(with_nas: Workshop) -> Iterator[FastAPI]:
    made = create_app(with_nas.settings)

    def authenticate(user: str, _ip: object) -> Caller:
        tenant = TENANTS[1] if user == "eve" else TENANTS[0]
        role = Role.ADMIN if user == "ann@example.com" else Role.MEMBER
        return Caller(role=role, tenant_id=tenant, user_id=user, credential="key")

    services = made.state.services.having(authenticate=authenticate)
    made.state.services = services
    services.pool.open()
    yield made
    services.close()


@pytest.fixture
def ask(app: FastAPI) -> Ask:
    """``ask(user, method, path, **options)``."""

    def send(user: str, method: str, path: str, **options: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, headers={"Authorization": user}, **options)

        return asyncio.run(sent())

    return send


def test_the_schema_and_the_catalog_describe_every_kind(ask: Ask, app: FastAPI) -> None:
    document = app.openapi()
    schema = {**document, "$ref": "#/components/schemas/DeliveryTarget"}
    listed = {kind["method"]: kind for kind in ask("bob", "GET", "/api/v1/exports/catalog").json()["destinations"]}
    assert listed.keys() == all_destinations().keys()
    for name, spec in all_destinations().items():
        assert Draft202012Validator(schema).is_valid(dict(spec.example))
        assert not Draft202012Validator(schema).is_valid({**spec.example, "surprise": 1})
        assert listed[name]["options"].keys() == spec.target.model_fields.keys() - {"method"}
    assert not Draft202012Validator(schema).is_valid({"method": "fax"})
    assert {name: kind["available"] for name, kind in listed.items()} == {
        "download": True, "email": False, "folder": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "field", "detail"),
    [
        ({"method": "fax"}, "delivery.0.method", "choose from download, email, folder"),
        ({"method": "folder", "folder": "nsa"}, "delivery.folder", "choose from nas"),
        ({"method": "folder", "folder": "nas", "path": "/etc"}, "delivery.0.path", "is not a known field"),
    ],
)
@pytest.mark.parametrize("path", [JOBS, "/api/v1/exports/bulk"])
def test_what_cannot_be_delivered_is_refused_at_once(
    ask: Ask, entry: dict[str, Any], field: str, detail: str, path: str
) -> None:
    order = PETS if path == JOBS else {"export_type": "full_backup"}
    answer = ask("ann@example.com", "POST", path, json={**order, "delivery": [entry]})
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert detail in answer.json()["detail"]
    assert "Target" not in answer.text


def test_a_delivery_has_a_receipt_that_no_stranger_sees(ask: Ask, with_nas: Workshop) -> None:
    order = {**PETS, "delivery": [{"method": "folder", "folder": "nas"}]}
    job = ask("ann@example.com", "POST", JOBS, json=order).json()["job_id"]
    with_nas.run(job)
    (delivery,) = ask("ann@example.com", "GET", f"{JOBS}/{job}").json()["deliveries"]
    assert (delivery["kind"], delivery["method"], delivery["status"]) == ("package", "folder", "delivered")
    assert delivery["receipt"]["location"].startswith(f"nas/{TENANTS[0]}/")
    assert str(with_nas.settings.folders["nas"]) not in str(delivery)
    assert ask("eve", "GET", f"{JOBS}/{job}").status_code == 404
    assert ask("bob", "GET", f"{JOBS}/{job}").status_code == 404


def test_a_failed_export_shows_whom_it_told(ask: Ask, with_nas: Workshop, smtp: Callable[..., SmtpServer]) -> None:
    order = {**PETS, "delivery": [{"method": "email", "recipients": ["ben@example.com"]}]}
    job = ask("ann@example.com", "POST", JOBS, json=order).json()["job_id"]
    requests = with_nas.services.requests
    assert requests.fail(job, attempt=1, run_id=None, error_type="unavailable", message="db.internal is gone")
    assert deliver_due(with_nas.services.having(destinations=mailing_to(smtp()))) == 2
    found = ask("ann@example.com", "GET", f"{JOBS}/{job}").json()
    assert [(each["kind"], each["recipient"], each["status"]) for each in found["deliveries"]] == [
        ("export_failed", "ann@example.com", "delivered"),
        ("export_failed", "ben@example.com", "delivered"),
    ]
    assert ask("eve", "GET", f"{JOBS}/{job}").status_code == 404
