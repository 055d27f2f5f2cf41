"""What an order costs before its run: one parse, one plan, one look at the source; nothing when it is repeated or
beyond its limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from export_pipelines.core import configuration
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.rates import parse_rate
from export_pipelines.pipeline.planning import orders
from export_pipelines_tests.api.inside import Inside, inside
from export_pipelines_tests.api.site import JOBS, TEMPLATES
from export_pipelines_tests.workshop import TENANTS, Workshop

ORDER: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
BULK: dict[str, Any] = {"export_type": "full_backup", "tables": ["pets"], "format": ["csv", "json", "parquet"]}
EXPORTS = "/api/v1/exports"
CALLERS = {"ann": Caller(role=Role.ADMIN, tenant_id=TENANTS[0], user_id="ann", credential="test")}


@dataclass
class Costs:
    """How often what costs was done."""

    source: int = 0  # sessions in the tenants' database
    objects: int = 0  # looks at the object store
    parsed: int = 0  # configurations
    planned: int = 0


@dataclass
class Counted:
    """A part of the service, with its calls counted."""

    real: Any
    counted: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Any:
        self.counted[name] += 1
        return getattr(self.real, name)


@dataclass
class Api:
    """The application, and what its calls cost."""

    client: Inside
    source: Counted
    store: Counted
    costs: Costs

    def ask(self, method: str, path: str, body: Any, key: str | None = None) -> tuple[httpx.Response, Costs]:
        self.costs.parsed = self.costs.planned = 0
        self.source.counted.clear()
        self.store.counted.clear()
        answer = self.client.ask("ann", method, path, json=body, headers={"Idempotency-Key": key} if key else {})
        looks = self.store.counted.total()
        return answer, replace(self.costs, source=self.source.counted["snapshot"], objects=looks)


@pytest.fixture
def api(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A user may order once an hour, and estimate once an hour."""
    costs, check, plan = Costs(), configuration._check_size, orders.plan_export

    def counted_check(raw: Any) -> None:
        costs.parsed += 1
        check(raw)

    def counted_plan(*given: Any, **named: Any) -> Any:
        costs.planned += 1
        return plan(*given, **named)

    monkeypatch.setattr(configuration, "_check_size", counted_check)
    monkeypatch.setattr(orders, "plan_export", counted_plan)
    rate = parse_rate("1/h")
    settings = workshop.settings.model_copy(update={"rate_limit": rate, "estimate_rate_limit": rate})
    with ExitStack() as opened:
        client = opened.enter_context(inside(settings, CALLERS))
        services = client.app.state.services
        source, store = Counted(services.source), Counted(services.store)
        client.app.state.services = services.having(source=source, store=store)
        yield Api(client, source, store, costs)


def _as_order(_api: Api, _workshop: Workshop) -> tuple[str, str, Any]:
    return "POST", JOBS, ORDER


def _as_bulk(_api: Api, _workshop: Workshop) -> tuple[str, str, Any]:
    return "POST", f"{EXPORTS}/bulk", BULK


def _as_conversion(_api: Api, workshop: Workshop) -> tuple[str, str, Any]:
    return "POST", f"{JOBS}/{workshop.export(ORDER).id}/convert", {"target_format": "json"}


def _as_run_of_a_template(api: Api, _workshop: Workshop) -> tuple[str, str, Any]:
    made, _ = api.ask("POST", TEMPLATES, {"name": "Pets", "config": ORDER})
    return "POST", f"{TEMPLATES}/{made.json()['id']}/run", {}


@pytest.mark.parametrize(
    ("prepare", "first"),
    [
        (_as_order, Costs(source=1, parsed=1, planned=1)),
        (_as_bulk, Costs(source=1, parsed=3, planned=3)),  # one for each format, of the same rows
        (_as_conversion, Costs(parsed=1, planned=1)),
        (_as_run_of_a_template, Costs(source=1, parsed=1, planned=1)),
    ],
    ids=["order", "bulk", "conversion", "template"],
)
def test_an_order_costs_once_and_nothing_when_repeated_or_beyond_the_limit(
    api: Api, workshop: Workshop, prepare: Any, first: Costs
) -> None:
    method, path, body = prepare(api, workshop)
    taken, costs = api.ask(method, path, body, key="first")
    assert taken.status_code == 202, taken.text
    assert replace(costs, objects=0) == first
    again, costs = api.ask(method, path, body, key="first")
    assert (again.status_code, again.content, again.headers["Idempotency-Replayed"]) == (202, taken.content, "true")
    assert (costs.source, costs.objects, costs.planned) == (0, 0, 0)
    other, costs = api.ask(method, path, {**body, "name": "other"}, key="first")
    assert (other.status_code, other.json()["field"], costs.source) == (422, "Idempotency-Key", 0)
    late, costs = api.ask(method, path, body, key="second")
    assert (late.status_code, late.headers["ratelimit"].split(";")[1]) == (429, "r=0")
    assert (costs.source, costs.objects, costs.planned) == (0, 0, 0)


def test_a_template_costs_once_and_nothing_when_repeated(api: Api) -> None:
    wanted = {"name": "Pets", "config": ORDER}
    made, costs = api.ask("POST", TEMPLATES, wanted, key="first")
    assert (made.status_code, costs, made.json()["problem"]) == (201, Costs(source=1, parsed=1, planned=1), None)
    assert made.json()["estimated_rows"] > 0
    again, costs = api.ask("POST", TEMPLATES, wanted, key="first")
    assert (again.content, costs.source, costs.planned) == (made.content, 0, 0)
    other, costs = api.ask("POST", TEMPLATES, {**wanted, "name": "Other"}, key="second")
    assert (other.status_code, other.json()["estimated_rows"], costs.source) == (201, None, 0)  # beyond the estimates
    path = f"{TEMPLATES}/{made.json()['id']}"
    saved, _ = api.ask("PUT", path, wanted, key="third")
    replayed, costs = api.ask("PUT", path, wanted, key="third")
    assert (saved.status_code, replayed.content, costs.source, costs.planned) == (200, saved.content, 0, 0)


def test_an_estimate_beyond_the_limit_asks_nobody(api: Api) -> None:
    first, costs = api.ask("POST", f"{EXPORTS}/estimate", ORDER)
    assert (first.status_code, costs) == (200, Costs(source=1, parsed=1, planned=1))
    late, costs = api.ask("POST", f"{EXPORTS}/estimate", ORDER)
    assert (late.status_code, costs.source, costs.planned) == (429, 0, 0)


def test_what_is_repeated_is_in_the_audit_log_once_more(api: Api, workshop: Workshop) -> None:
    for _ in range(2):
        api.ask("POST", JOBS, ORDER, key="k")
    api.ask("POST", JOBS, {**ORDER, "tables": ["petz"]}, key="k")
    with workshop.services.reading_control() as control:
        lines = control.execute(
            "SELECT outcome::text, detail->>'replayed', detail->>'error' FROM export_control.audit_log ORDER BY id"
        ).fetchall()
    assert [tuple(line) for line in lines] == [
        ("ok", None, None),
        ("ok", "true", None),
        ("refused", None, "RequestRejected"),
    ]


def test_a_schedule_and_its_run_cost_a_plan_each_and_no_look_at_the_source(api: Api) -> None:
    wanted = {"name": "Nightly", "cron": "0 3 * * *", "config": ORDER}
    made, costs = api.ask("POST", f"{EXPORTS}/schedules", wanted, key="first")
    assert (made.status_code, costs) == (201, Costs(parsed=1, planned=1))
    _, costs = api.ask("POST", f"{EXPORTS}/schedules", wanted, key="first")
    assert costs.planned == 0
    path = f"{EXPORTS}/schedules/{made.json()['id']}/run"
    ran, costs = api.ask("POST", path, None, key="run")
    assert (ran.status_code, costs) == (202, Costs(parsed=1, planned=1))
    again, costs = api.ask("POST", path, None, key="run")
    assert (again.content, costs) == (ran.content, Costs())
    late, costs = api.ask("POST", path, None, key="another")
    assert (late.status_code, costs) == (429, Costs())
