"""A failed export tells its requester and recipients, once, through a real mail server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from export_pipelines.core.access import Role
from export_pipelines.destinations.registry import open_destinations
from export_pipelines.pipeline.failures import announce_failures
from export_pipelines.pipeline.publish.deliver import deliver_due
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.settings import Settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.requests import RequestStore
from export_pipelines_tests.outbox import mailing_to
from export_pipelines_tests.servers.smtp import ReceivedMail, SmtpServer
from export_pipelines_tests.workshop import Workshop

ANN, BEN, CLEO = "ann@example.com", "ben@example.com", "cleo@example.com"
REFUSED = "filters.date_range.end: '2026-13-01' is not a date such as 2026-01-31"
CONFIG: dict[str, Any] = {
    "name": "First quarter",
    "tables": ["pets"],
    "format": "csv",
    "delivery": [{"method": "email", "recipients": [BEN, CLEO]}, {"method": "download"}],
}


@pytest.fixture
def requests(control_url: str) -> Iterator[RequestStore]:
    with closing(ControlDatabase(control_url)) as control:
        yield RequestStore(control)


@pytest.fixture
def outbox(control_url: str) -> Iterator[DeliveryStore]:
    with closing(ControlDatabase(control_url)) as control:
        yield DeliveryStore(control)


@pytest.fixture
def server(smtp: Callable[..., SmtpServer]) -> SmtpServer:
    return smtp()


def services_of(workshop: Workshop, server: SmtpServer) -> ExportServices:
    return workshop.services.having(destinations=mailing_to(server))


@pytest.fixture
def services(workshop: Workshop, server: SmtpServer) -> ExportServices:
    return services_of(workshop, server)


def failed(
    requests: RequestStore, config: dict[str, Any] = CONFIG, *, by: str | None = ANN, message: str = REFUSED
) -> str:
    """A request that ended as failed, after its last attempt."""
    role = Role.MEMBER if by else None
    request_id = requests.insert(tenant_id="clinic-1", config=config, requested_by=by, requested_role=role)
    assert requests.fail(request_id, attempt=1, run_id=None, error_type="request_rejected", message=message)
    return request_id


def by_recipient(server: SmtpServer) -> dict[str, ReceivedMail]:
    mails = server.received()
    assert len({mail.recipients[0] for mail in mails}) == len(mails), "somebody was told twice"
    return {mail.recipients[0]: mail for mail in mails}


def test_who_asked_and_who_was_to_receive_it_are_told_once_what_why_and_what_to_do(
    services: ExportServices, requests: RequestStore, server: SmtpServer
) -> None:
    request_id = failed(requests)
    assert services.deliveries.any_due()
    assert deliver_due(services) == 3
    assert not services.deliveries.any_due()
    assert deliver_due(services) == 0
    mails = by_recipient(server)
    assert mails.keys() == {ANN, BEN, CLEO}
    asker, receiver = mails[ANN].message, mails[BEN].message
    assert asker["Subject"] == "Your export failed: First quarter"
    assert receiver["Subject"] == "An export meant for you failed: First quarter"
    for message in (asker, receiver):
        assert REFUSED in message.get_content()
        assert f"Export id: {request_id}" in message.get_content()
        assert "/d/" not in message.get_content()
    assert "What to do: Change that and order the export again." in asker.get_content()
    assert "What to do: Nothing. If you need the data, ask whoever ordered the export." in receiver.get_content()
    assert len({mail.message["Message-ID"] for mail in mails.values()}) == 3
    rows = services.deliveries.of_request(request_id)
    assert {(row["kind"], row["method"], row["status"]) for row in rows} == {("export_failed", "email", "delivered")}


@pytest.mark.parametrize(
    ("by", "config", "reported"),
    [
        ("cli:root", CONFIG, {BEN, CLEO}),
        (None, CONFIG, {BEN, CLEO}),
        (ANN, {**CONFIG, "delivery": []}, {ANN}),
        (BEN, CONFIG, {BEN, CLEO}),
        ("nobody", {**CONFIG, "delivery": [{"method": "download"}]}, set()),
    ],
)
def test_only_known_addresses_are_told_and_nobody_twice(
    services: ExportServices,
    requests: RequestStore,
    server: SmtpServer,
    by: str | None,
    config: dict[str, Any],
    reported: set[str],
) -> None:
    failed(requests, config, by=by)
    assert deliver_due(services) == len(reported)
    mails = by_recipient(server)
    assert mails.keys() == reported
    if by == BEN:
        assert mails[BEN].message["Subject"].startswith("Your export failed")


def test_a_request_refused_after_it_was_inserted_by_sql_tells_its_recipients(
    workshop: Workshop, server: SmtpServer
) -> None:
    request_id = workshop.order({**CONFIG, "tables": ["petz"]})
    workshop.run(request_id)
    assert deliver_due(services_of(workshop, server)) == 2
    assert "'petz'" in by_recipient(server)[BEN].message.get_content()


def test_an_attempt_that_will_be_repeated_tells_nobody(
    services: ExportServices, requests: RequestStore, server: SmtpServer
) -> None:
    request_id = requests.insert(tenant_id="clinic-1", config=CONFIG, requested_by=ANN, requested_role=Role.MEMBER)
    for attempt in (1, 2):
        assert requests.claim(request_id, attempt=attempt, run_id=f"r{attempt}")
        assert requests.requeue(
            request_id, attempt=attempt, run_id=f"r{attempt}", error_type="internal", message="again"
        )
        assert deliver_due(services) == 0
    assert requests.claim(request_id, attempt=3, run_id="r3")
    assert requests.fail(request_id, attempt=3, run_id="r3", error_type="internal", message="unexpected KeyError")
    assert deliver_due(services) == 3
    assert "KeyError" not in by_recipient(server)[ANN].message.get_content()


def test_one_that_a_person_retries_and_that_fails_again_tells_again(
    services: ExportServices, requests: RequestStore, server: SmtpServer
) -> None:
    request_id = failed(requests)
    assert deliver_due(services) == 3
    requests.retry(request_id)
    assert deliver_due(services) == 0
    assert requests.fail(request_id, attempt=2, run_id=None, error_type="unavailable", message="still gone")
    assert deliver_due(services) == 3
    assert Counter(mail.recipients[0] for mail in server.received()) == {ANN: 2, BEN: 2, CLEO: 2}
    assert "did not answer" in server.received()[-1].message.get_content()


def test_a_cancelled_export_tells_nobody(services: ExportServices, requests: RequestStore, server: SmtpServer) -> None:
    request_id = requests.insert(tenant_id="clinic-1", config=CONFIG, requested_by=ANN, requested_role=Role.MEMBER)
    requests.request_cancel(request_id)
    assert deliver_due(services) == 0
    assert server.received() == []


def test_many_who_look_at_once_write_each_notice_once(
    services: ExportServices, requests: RequestStore, outbox: DeliveryStore, control_url: str
) -> None:
    ids = [failed(requests) for _ in range(12)]
    start, announced = threading.Barrier(4), []

    def work() -> None:
        with closing(ControlDatabase(control_url)) as control:
            start.wait()
            announced.append(announce_failures(services.having(deliveries=DeliveryStore(control))))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(announced) == len(ids)
    assert [len(outbox.of_request(request_id)) for request_id in ids] == [3] * len(ids)


def test_one_who_dies_between_two_notices_leaves_none(
    services: ExportServices, requests: RequestStore, outbox: DeliveryStore, control_url: str
) -> None:
    request_id = failed(requests)
    with closing(ControlDatabase(control_url)) as control, pytest.raises(ConnectionError):
        DeliveryStore(control).announce_failure(_dying)
    assert outbox.of_request(request_id) == []
    assert announce_failures(services) == 1
    assert len(outbox.of_request(request_id)) == 3


def _dying(_failed: object) -> Any:
    raise ConnectionError


@pytest.mark.parametrize(
    "change",
    [
        {"delivery": "all"},
        {"delivery": [None, 1, {}, {"method": 1}, {"method": "fax", "recipients": [BEN]}]},
        {"delivery": [{"method": "email", "recipients": BEN}]},
        {"delivery": [{"method": "email", "recipients": ["nobody", {"a": 1}, "x@y.z\r\nBcc: all@y.z", "a,b@c.de"]}]},
        {"delivery": [{"method": "folder", "folder": "nas"}]},
        {"delivery": [{"method": "email", "recipients": []}] * 20 + [{"method": "email", "recipients": [BEN]}]},
        {"name": {"a": 1}, "delivery": []},
        {"name": "x\r\nBcc: eve@example.com {{WHY}} {{ID}}", "delivery": []},
    ],
)
def test_an_order_that_makes_no_sense_tells_who_asked_and_nobody_else(
    services: ExportServices, requests: RequestStore, server: SmtpServer, change: dict[str, Any]
) -> None:
    failed(requests, {**CONFIG, **change})
    assert deliver_due(services) == 1
    (mail,) = server.received()
    assert mail.recipients == [ANN]
    assert mail.message["Bcc"] is None
    assert "{{WHY}}" in mail.message["Subject"] or "{{" not in mail.message.as_string()


def test_without_a_mail_server_nobody_is_kept_waiting_for_a_notice(
    workshop: Workshop, requests: RequestStore, outbox: DeliveryStore
) -> None:
    request_id = failed(requests)
    assert deliver_due(workshop.services.having(destinations=open_destinations(Settings()))) == 0
    assert outbox.of_request(request_id) == []
    assert not outbox.any_due()


def test_a_mail_server_that_is_down_gets_the_same_words_later(
    services: ExportServices, requests: RequestStore, server: SmtpServer, control_url: str, tmp_path: Path
) -> None:
    failed(requests, {**CONFIG, "delivery": []})
    down = mailing_to(SmtpServer(port=9, mails=tmp_path / "none"))
    assert deliver_due(services.having(destinations=down)) == 0
    with closing(ControlDatabase(control_url)) as control:
        control.rows("UPDATE export_control.export_deliveries SET due_at = now()")
    assert deliver_due(services) == 1
    assert "First quarter" in by_recipient(server)[ANN].message["Subject"]
