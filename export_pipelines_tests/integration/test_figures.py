"""Figures of the queue and metrics: who may count what, what they say, and that totals never fall."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from prometheus_client import parser

from export_pipelines.api.metrics import exposition
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.errors import NotAllowed, RequestRejected
from export_pipelines.object_stores.opening import open_store
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.metrics import FigureStore
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.service_state import ServiceStateStore
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.published import Publisher, mails
from export_pipelines_tests.workshop import Workshop

MONITORING = Path(__file__).parents[2] / "deployments" / "monitoring"
CONFIG: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
OPERATOR = Caller(role=Role.OPERATOR, credential="test")


def admin(tenant: str) -> Caller:
    return Caller(role=Role.ADMIN, tenant_id=tenant, credential="test")


@pytest.fixture
def control(control_url: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(control_url)) as opened:
        yield opened


@pytest.fixture
def pool(control_url: str) -> Iterator[ControlPool]:
    opened = ControlPool(control_url, connections=2)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def publisher(control: ControlDatabase, tmp_path: Path) -> Publisher:
    return Publisher(control=control, store=open_store(str(tmp_path)))


def samples(store: FigureStore, accept: str = "") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every series of a scrape, read by the library's own parser."""
    content, _ = exposition(store, accept)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def value(store: FigureStore, name: str, **labels: str) -> float:
    return samples(store)[f"export_pipelines_{name}", tuple(sorted(labels.items()))]


# The queue ----------------------------------------------------------------------------------------------------------


def busy(publisher: Publisher) -> None:
    """Two tenants: one completed, one failed, one at work, one due, one due later; and one of the other tenant."""
    requests = publisher.requests
    publisher.publish(tenant="one", deliveries=mails("a@example.com"))
    failed = requests.insert(tenant_id="one", config=CONFIG)
    requests.fail(failed, attempt=1, run_id=None, error_type="unavailable", message="the source is down")
    assert requests.claim(requests.insert(tenant_id="one", config=CONFIG), attempt=1, run_id="run")
    requests.insert(tenant_id="one", config=CONFIG)
    later = requests.insert(tenant_id="one", config=CONFIG)
    requests.requeue(later, attempt=1, run_id=None, error_type="unavailable", message="again")
    requests.insert(tenant_id="two", config=CONFIG)


def test_the_queue_is_told_as_it_is(publisher: Publisher, control: ControlDatabase) -> None:
    busy(publisher)
    found = FigureStore(control).queue()
    assert found is not None
    now, recent = found.now, found.recent
    assert (now.queued, now.waiting, now.processing, now.running) == (2, 1, 1, {"one": 1})
    assert now.deliveries == {"pending": 1}
    assert None not in (now.oldest_queued_seconds, now.silent_seconds, now.oldest_delivery_seconds)
    assert (recent.completed_last_hour, recent.completed_last_day, recent.failed_last_day) == (1, 1, 1)
    assert recent.failures == {"unavailable": 1}
    assert recent.run_median is not None
    assert recent.run_p95 is not None


def test_a_queue_that_nothing_is_in_has_no_times(control: ControlDatabase) -> None:
    found = FigureStore(control).queue()
    assert found is not None
    assert {name for name, held in asdict(found.now).items() if held} == set()
    assert {name for name, held in asdict(found.recent).items() if held} == set()
    assert (found.now.oldest_queued_seconds, found.recent.wait_median) == (None, None)


@pytest.mark.parametrize(
    ("caller", "wanted", "queued"),
    [
        (OPERATOR, None, 2),
        (OPERATOR, "two", 1),
        (admin("one"), None, 1),
        (admin("one"), "one", 1),
        (admin("one"), "two", None),
        (admin("three"), None, 0),
        (Caller(role=Role.MEMBER, tenant_id="one", user_id="ann", credential="test"), None, None),
        (Caller(role=Role.MEMBER, tenant_id="one", user_id="ann", credential="test"), "one", None),
        (None, None, None),
        (None, "one", None),
    ],
)
def test_the_database_decides_whose_queue_a_caller_sees(
    publisher: Publisher, pool: ControlPool, caller: Caller | None, wanted: str | None, queued: int | None
) -> None:
    busy(publisher)
    with pool.tenant_session(caller) as acting:
        found = FigureStore(acting).queue(wanted)
    assert (found.now.queued if found else None) == queued
    if found and caller != OPERATOR:
        assert set(found.now.running) <= {"one"}


def test_a_tenant_called_like_a_wildcard_is_a_tenant(publisher: Publisher, pool: ControlPool) -> None:
    busy(publisher)
    with pool.tenant_session(admin("%")) as acting:
        found = FigureStore(acting).queue()
    assert found is not None
    assert (found.now.queued, found.recent.completed_last_day) == (0, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM export_control.metric_counters",
        "SELECT * FROM export_control.metric_histograms",
        "SELECT export_control.metric_add('exports', 'completed', 'csv', '', 1000)",
        "SELECT export_control.metric_observe('export_wait_seconds', 'csv', 1)",
    ],
)
def test_the_api_can_neither_read_nor_forge_what_is_kept(pool: ControlPool, statement: str) -> None:
    with pytest.raises(RequestRejected, match="may not do this"), pool.tenant_session(OPERATOR) as acting:
        acting.rows(statement)


# Metrics ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", [admin("one"), None], ids=["admin", "nobody"])
def test_only_operators_get_metrics(pool: ControlPool, caller: Caller | None) -> None:
    with pytest.raises(NotAllowed, match="operator"), pool.tenant_session(caller) as acting:
        exposition(FigureStore(acting))
    with pool.tenant_session(caller) as acting:
        assert FigureStore(acting).totals() == []


def test_an_operator_gets_what_the_service_counted(publisher: Publisher, pool: ControlPool) -> None:
    busy(publisher)
    with pool.tenant_session(OPERATOR) as acting:
        store = FigureStore(acting)
        assert value(store, "exports_total", format="csv", status="completed") == 1
        assert value(store, "export_failures_total", error_type="unavailable") == 1
        assert value(store, "export_retries_total", error_type="unavailable") == 1
        assert value(store, "exported_rows_total", format="csv") == 2
        assert value(store, "queue_exports", state="queued") == 2
        assert value(store, "export_duration_seconds_count", format="csv") == 1
        assert value(store, "export_size_bytes_bucket", format="csv", le="10000.0") == 1
        assert value(store, "deliveries_open", status="pending") == 1


def test_no_label_names_a_tenant(publisher: Publisher, control: ControlDatabase) -> None:
    busy(publisher)
    labels = {name for _, held in samples(FigureStore(control)) for name, _ in held}
    assert labels == {"format", "status", "error_type", "method", "state", "le", "version", "python"}


def test_what_may_rise_exists_before_it_does(control: ControlDatabase) -> None:
    store = FigureStore(control)
    assert value(store, "export_failures_total", error_type="integrity_violation") == 0
    assert value(store, "exports_total", format="xlsx", status="failed") == 0
    assert value(store, "deliveries_total", method="email", status="failed") == 0


def test_nothing_that_is_deleted_makes_a_counter_fall(
    publisher: Publisher, control: ControlDatabase, control_url: str
) -> None:
    busy(publisher)
    store = FigureStore(control)
    before = samples(store)
    request_id = publisher.publish()
    publisher.requests.mark_deleted(request_id)
    with psycopg.connect(control_url) as connection:  # as retention by an administrator's hand would
        connection.execute("SET session_replication_role = replica")
        connection.execute("TRUNCATE export_control.export_requests CASCADE")
    after = samples(store)
    counters = {key for key in before if key[0].endswith(("_total", "_bucket", "_count", "_sum"))}
    assert [key for key in counters if after[key] < before[key]] == []
    ended = ("export_pipelines_exports_total", (("format", "csv"), ("status", "completed")))
    assert (before[ended], after[ended]) == (1, 2)
    assert value(store, "exports_total", format="csv", status="expired") == 1
    assert value(store, "queue_exports", state="queued") == 0


def test_a_format_is_counted_under_its_name_whatever_it_was_called(publisher: Publisher) -> None:
    requests = publisher.requests
    for called in ("excel", "XLSX", " xlsx "):
        requests.request_cancel(requests.insert(tenant_id="t", config={**CONFIG, "format": called}))
    assert value(FigureStore(publisher.control), "exports_total", format="xlsx", status="cancelled") == 3


def test_made_up_formats_do_not_make_series(publisher: Publisher, control: ControlDatabase) -> None:
    requests = publisher.requests
    for number in range(50):
        requests.request_cancel(requests.insert(tenant_id="t", config={**CONFIG, "format": f"made-up {number}"}))
        requests.request_cancel(requests.insert(tenant_id="t", config={**CONFIG, "format": f"madeup{number}"}))
    publisher.publish()
    store = FigureStore(control)
    assert value(store, "exports_total", format="other", status="cancelled") == 100
    assert value(store, "exports_total", format="csv", status="completed") == 1
    (kept,) = control.rows("SELECT count(*) AS n FROM export_control.metric_counters")
    assert kept["n"] < 50


def test_a_transaction_that_takes_its_time_keeps_no_other_export_from_ending(
    publisher: Publisher, control_url: str
) -> None:
    slow, quick = (publisher.requests.insert(tenant_id="t", config=CONFIG) for _ in range(2))
    cancel = "UPDATE export_control.export_requests SET status = 'cancelled' WHERE id = %s"
    with psycopg.connect(control_url) as held:
        held.execute(cancel, (slow,))
        with psycopg.connect(control_url) as other:
            other.execute("SET lock_timeout = '2s'")
            other.execute(cancel, (quick,))
        assert value(FigureStore(publisher.control), "exports_total", format="csv", status="cancelled") == 1
    assert value(FigureStore(publisher.control), "exports_total", format="csv", status="cancelled") == 2


def test_many_that_end_together_are_all_counted(publisher: Publisher, control_url: str) -> None:
    """Of three formats, from four connections: nothing is lost and nobody waits in a circle."""
    formats = ("csv", "json", "xml")
    ids = [publisher.requests.insert(tenant_id="t", config={**CONFIG, "format": formats[n % 3]}) for n in range(60)]

    def end(mine: list[str]) -> None:
        with closing(ControlDatabase(control_url)) as control:
            for first, second in zip(mine[::2], mine[1::2], strict=True):
                with control.transaction():  # two of different formats in one transaction, in either order
                    RequestStore(control).request_cancel(first)
                    RequestStore(control).request_cancel(second)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(end, [ids[start::4][:: 1 if start % 2 else -1][:14] for start in range(4)]))
    store = FigureStore(publisher.control)
    ended = [value(store, "exports_total", format=name, status="cancelled") for name in formats]
    assert sum(ended) == 56


# Rules and dashboard ------------------------------------------------------------------------------------------------


def test_every_metric_of_alerts_and_dashboard_is_in_a_scrape_after_an_export(workshop: Workshop) -> None:
    workshop.export(CONFIG)
    with closing(ControlDatabase(workshop.settings.require_control_url())) as control:
        ServiceStateStore(control).look(daemons={"SENSOR": 0.0})
        series = samples(FigureStore(control))
    known = {name for name, _ in series}
    used = {
        path.name: set(re.findall(r"\bexport_pipelines_[a-z_]+", path.read_text("utf-8")))
        for path in (MONITORING / "alerts.yml", MONITORING / "grafana-dashboard.json")
    }
    assert all(len(names) > 5 for names in used.values())
    assert {path: names - known for path, names in used.items()} == {name: set() for name in used}
    labels = {name: {label for key, held in series if key == name for label, _ in held} for name in known}
    for text in (path.read_text("utf-8").replace('\\"', '"') for path in MONITORING.glob("*.[jy]*")):
        for metric, matchers in re.findall(r"\b(export_pipelines_[a-z_]+)\{([^}]*)\}", text):
            assert set(re.findall(r"(\w+)(?:=|!)", matchers)) <= labels[metric]


def test_rules_and_dashboard_are_what_their_readers_take() -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["expr"].count("(") == rule["expr"].count(")")
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text("utf-8"))
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    scrape = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    assert scrape["scrape_configs"][0]["job_name"] == "export-pipelines"
    assert 'job="export-pipelines"' in (MONITORING / "alerts.yml").read_text("utf-8")
