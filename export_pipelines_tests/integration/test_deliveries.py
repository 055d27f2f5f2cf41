"""The outbox on a real control database: one message a recipient, whatever dies or repeats in between."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from export_pipelines.core.destinations import Delivery, Receipt, TestStep
from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.core.model import PlannedDelivery
from export_pipelines.core.ports import Message
from export_pipelines.destinations.email import Mailer
from export_pipelines.destinations.folder import FolderDestination
from export_pipelines.destinations.registry import Destinations, find_destination, open_destinations
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline.messages import fill
from export_pipelines.pipeline.publish import deliver
from export_pipelines.pipeline.publish.deliver import deliver_due
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.settings import Settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import BACKOFF_SECONDS, SENDING_TIMEOUT
from export_pipelines.stores.links import token_hash
from export_pipelines_tests.outbox import mailing, mailing_to
from export_pipelines_tests.published import Publisher, mails
from export_pipelines_tests.servers.smtp import SmtpServer

ANN, BEN = "ann@example.com", "ben@example.com"
PUBLIC = "https://exports.example.com"
LINK = re.compile(rf"{PUBLIC}/d/([\w-]{{43}})")


class Recorder:
    """A mailer that keeps messages, or raises what it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[Message] = []
        self.error = error

    def send(self, message: Message) -> str:
        if self.error is not None:
            raise self.error
        self.sent.append(message)
        return f"receipt {len(self.sent)}"

    def self_test(self) -> Iterator[TestStep]:
        raise NotImplementedError


@pytest.fixture
def control_url(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("deliveries")


@pytest.fixture
def publisher(control_url: str, tmp_path: Path) -> Iterator[Publisher]:
    with closing(ControlDatabase(control_url)) as control:
        yield Publisher(control=control, store=LocalStore(tmp_path / "objects"))


def services(publisher: Publisher, mailer: Mailer | Destinations, tmp_path: Path) -> ExportServices:
    """What the outbox needs of an export's services; the rest is never touched."""
    settings = Settings(EXPORT_HOME=tmp_path, EXPORT_PUBLIC_URL=PUBLIC)
    ways = mailer if isinstance(mailer, Destinations) else mailing(mailer)
    return open_services(settings, control=publisher.control, store=publisher.store, destinations=ways)


def publish(publisher: Publisher, *recipients: str, **wording: str) -> str:
    return publisher.publish(deliveries=mails(*recipients, **wording))


def states(publisher: Publisher, request_id: str) -> dict[str, str]:
    return {row["recipient"]: row["status"] for row in publisher.deliveries.of_request(request_id)}


def make_due(publisher: Publisher) -> None:
    """Let the pause, or the time a sender has, be over."""
    publisher.change(
        "UPDATE export_control.export_deliveries SET due_at = now() WHERE status IN ('pending', 'sending')"
    )


def seconds_until_due(publisher: Publisher, request_id: str) -> float:
    rows = publisher.control.rows(
        "SELECT extract(epoch FROM due_at - now()) AS pause FROM export_control.export_deliveries "
        "WHERE request_id = %(id)s",
        {"id": request_id},
    )
    return float(rows[0]["pause"])


# Sending ----------------------------------------------------------------------------------------------------------


def test_each_recipient_gets_one_mail_with_a_link_of_their_own(
    publisher: Publisher, tmp_path: Path, smtp: Callable[..., SmtpServer]
) -> None:
    server = smtp()
    request_id = publish(publisher, ANN, BEN)
    mailer = mailing_to(server)
    assert deliver_due(services(publisher, mailer, tmp_path)) == 2
    assert deliver_due(services(publisher, mailer, tmp_path)) == 0
    mails = server.received()
    assert sorted(mail.recipients[0] for mail in mails) == [ANN, BEN]
    tokens = {LINK.findall(mail.message.get_content())[0] for mail in mails}
    assert len(tokens) == 2
    for token in tokens:
        export = publisher.links.follow(token)
        assert export is not None
        assert export.request_id == request_id
    assert len({mail.message["Message-ID"] for mail in mails}) == 2
    for row in publisher.deliveries.of_request(request_id):
        assert (row["status"], row["attempts"], row["error_message"]) == ("delivered", 1, None)
        assert row["delivered_at"]


def test_the_owner_of_a_paused_schedule_that_never_made_an_export_gets_a_mail(
    publisher: Publisher, tmp_path: Path, smtp: Callable[..., SmtpServer]
) -> None:
    server = smtp()
    mailer = mailing_to(server)
    publisher.change(
        """
        WITH made AS (
            INSERT INTO export_control.export_schedules (tenant_id, owner, name, config, cron, timezone, next_fire_at)
            VALUES ('clinic-1', %(owner)s, 'Pets', '{}', '0 3 * * *', 'UTC', now()) RETURNING id
        )
        INSERT INTO export_control.export_deliveries (schedule_id, kind, method, recipient, message)
        SELECT id, 'schedule_paused', 'email', %(owner)s, '{"schedule": "Pets", "reason": "no such timezone"}' FROM made
        """,
        owner=ANN,
    )
    assert deliver_due(services(publisher, mailer, tmp_path)) == 1
    assert deliver_due(services(publisher, mailer, tmp_path)) == 0
    (mail,) = server.received()
    assert (mail.recipients, mail.message["Subject"]) == ([ANN], "Your scheduled export is paused: Pets")
    assert "no such timezone" in mail.message.get_content()


def test_a_recipient_named_twice_gets_one_mail(publisher: Publisher, tmp_path: Path) -> None:
    mailer = Recorder()
    publisher.publish(deliveries=mails(ANN, BEN, ANN))
    deliver_due(services(publisher, mailer, tmp_path))
    assert sorted(message.recipient for message in mailer.sent) == [ANN, BEN]


def test_only_the_tokens_hash_is_kept(publisher: Publisher, tmp_path: Path) -> None:
    mailer = Recorder()
    publish(publisher, ANN)
    deliver_due(services(publisher, mailer, tmp_path))
    [token] = LINK.findall(mailer.sent[0].body)
    [row] = publisher.control.rows("SELECT l::text AS all, token_sha256 FROM export_control.export_links l")
    assert row["token_sha256"] == token_hash(token)
    assert token not in row["all"]


def test_a_link_never_outlives_its_package(publisher: Publisher, tmp_path: Path) -> None:
    mailer = Recorder()
    request_id = publish(publisher, ANN)
    publisher.change(
        "UPDATE export_control.export_requests SET expires_at = now() + interval '1 hour' WHERE id = %(id)s",
        id=request_id,
    )
    deliver_due(services(publisher, mailer, tmp_path))
    [token] = LINK.findall(mailer.sent[0].body)
    export = publisher.links.follow(token)
    assert export is not None
    assert export.available_until <= dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)


def test_one_requests_turn_leaves_the_others_alone(publisher: Publisher, tmp_path: Path) -> None:
    first, second = publish(publisher, ANN), publish(publisher, BEN)
    mailer = Recorder()
    assert deliver_due(services(publisher, mailer, tmp_path), second) == 1
    assert states(publisher, first) == {ANN: "pending"}


# Wording ----------------------------------------------------------------------------------------------------------


def test_the_users_words_are_filled_in(publisher: Publisher, tmp_path: Path) -> None:
    mailer = Recorder()
    body = "{{ROWS}} rows, {{ SIZE }}, until {{EXPIRES_AT}}: {{FILE_URL}}"
    publish(publisher, ANN, subject="{{NAME}} for you", body=body)
    deliver_due(services(publisher, mailer, tmp_path))
    [message] = mailer.sent
    assert message.subject == "Pets for you"
    assert re.fullmatch(rf"2 rows, 30 bytes, until \d{{4}}-\d\d-\d\d \d\d:\d\d UTC: {LINK.pattern}", message.body)


@pytest.mark.parametrize(
    ("body", "start"),
    [
        ("No link here.", "No link here.\n\n"),
        ("Broken {{FILE_URL} and {{ FILE_URL", "Broken {{FILE_URL} and {{ FILE_URL\n\n"),
        ("{{UNKNOWN}} {{}} }} {{", "{{UNKNOWN}} {{}} }} {{\n\n"),
        ("{% for x in y %} ${FILE_URL} {0} %(x)s", "{% for x in y %} ${FILE_URL} {0} %(x)s\n\n"),
    ],
)
def test_the_link_is_always_there_and_other_marks_stay_as_they_are(
    publisher: Publisher, tmp_path: Path, body: str, start: str
) -> None:
    mailer = Recorder()
    publish(publisher, ANN, body=body)
    deliver_due(services(publisher, mailer, tmp_path))
    assert mailer.sent[0].body.startswith(start)
    assert len(LINK.findall(mailer.sent[0].body)) == 1


def test_a_value_is_never_a_template() -> None:
    values = {"NAME": "{{FILE_URL}} {{NAME}}", "FILE_URL": "https://x"}
    assert fill("{{NAME}} at {{FILE_URL}}", values) == "{{FILE_URL}} {{NAME}} at https://x"


def test_a_name_cannot_start_another_header(publisher: Publisher, tmp_path: Path) -> None:
    mailer = Recorder()
    publisher.publish(name="Pets\r\nBcc: eve@example.com", deliveries=mails(ANN))
    deliver_due(services(publisher, mailer, tmp_path))
    assert mailer.sent[0].subject == "Your export is ready: Pets Bcc: eve@example.com"


# Failures ---------------------------------------------------------------------------------------------------------


def test_what_fails_for_now_is_due_again_after_a_pause_that_doubles(publisher: Publisher, tmp_path: Path) -> None:
    request_id = publish(publisher, ANN)
    mailer = Recorder(Unavailable("mail server is down"))
    pauses = []
    for _ in range(4):
        assert deliver_due(services(publisher, mailer, tmp_path)) == 0
        assert states(publisher, request_id) == {ANN: "pending"}
        pauses.append(round(seconds_until_due(publisher, request_id) / BACKOFF_SECONDS))
        assert deliver_due(services(publisher, Recorder(), tmp_path)) == 0  # not before the pause is over
        make_due(publisher)
    assert pauses == [1, 2, 4, 8]
    assert deliver_due(services(publisher, Recorder(), tmp_path)) == 1
    [row] = publisher.deliveries.of_request(request_id)
    assert (row["status"], row["attempts"], row["error_message"]) == ("delivered", 5, None)


def test_every_try_has_the_same_message_id_and_a_working_link(publisher: Publisher, tmp_path: Path) -> None:
    request_id = publish(publisher, ANN)
    first, second = Recorder(), Recorder()
    deliver_due(services(publisher, first, tmp_path))
    publisher.change("UPDATE export_control.export_deliveries SET status = 'pending', due_at = now()")
    deliver_due(services(publisher, second, tmp_path))
    assert first.sent[0].message_id == second.sent[0].message_id
    for message in (*first.sent, *second.sent):
        export = publisher.links.follow(LINK.findall(message.body)[0])
        assert export is not None
        assert export.request_id == request_id


def test_a_final_refusal_stays_failed_and_the_export_stays_completed(publisher: Publisher, tmp_path: Path) -> None:
    request_id = publish(publisher, ANN)
    deliver_due(services(publisher, Recorder(RequestRejected("no such mailbox")), tmp_path))
    make_due(publisher)
    assert deliver_due(services(publisher, Recorder(), tmp_path)) == 0
    [row] = publisher.deliveries.of_request(request_id)
    assert (row["status"], row["error_message"]) == ("failed", "no such mailbox")
    assert publisher.requests.get(request_id).status == "completed"


def test_one_recipient_that_fails_does_not_keep_the_mail_from_others(
    publisher: Publisher, tmp_path: Path, smtp: Callable[..., SmtpServer]
) -> None:
    server = smtp()
    request_id = publish(publisher, "never@example.com", ANN, "later@example.com", "zoë @example.com")
    mailer = mailing_to(server)
    assert deliver_due(services(publisher, mailer, tmp_path)) == 1
    assert states(publisher, request_id) == {
        "never@example.com": "failed",
        ANN: "delivered",
        "later@example.com": "pending",
        "zoë @example.com": "failed",
    }


def test_attempts_come_to_an_end(publisher: Publisher, tmp_path: Path) -> None:
    request_id = publish(publisher, ANN)
    for _ in range(8):
        deliver_due(services(publisher, Recorder(Unavailable("down")), tmp_path))
        make_due(publisher)
    [row] = publisher.deliveries.of_request(request_id)
    assert (row["status"], row["attempts"], row["error_message"]) == ("failed", 8, "down")


def test_without_a_mail_server_the_delivery_says_which_setting_is_missing(publisher: Publisher, tmp_path: Path) -> None:
    request_id = publish(publisher, ANN)
    deliver_due(services(publisher, open_destinations(Settings()), tmp_path))
    [row] = publisher.deliveries.of_request(request_id)
    assert row["status"] == "pending"
    assert "SMTP_HOST" in row["error_message"]


# Competition and death --------------------------------------------------------------------------------------------


def test_takers_at_once_never_send_one_delivery_twice(publisher: Publisher, control_url: str, tmp_path: Path) -> None:
    recipients = [f"user{number}@example.com" for number in range(60)]
    publish(publisher, *recipients[:30])
    publish(publisher, *recipients[30:])
    mailers = [Recorder() for _ in range(4)]
    start = threading.Barrier(len(mailers))

    def work(mailer: Recorder) -> None:
        with closing(ControlDatabase(control_url)) as control:
            own = Publisher(control=control, store=publisher.store)
            start.wait()
            deliver_due(services(own, mailer, tmp_path))

    threads = [threading.Thread(target=work, args=(mailer,)) for mailer in mailers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = Counter(message.recipient for mailer in mailers for message in mailer.sent)
    assert sent == Counter(recipients)
    assert sum(bool(mailer.sent) for mailer in mailers) > 1


_TAKER = """
import sys, time
from export_pipelines.settings import Settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore
print(DeliveryStore(ControlDatabase(sys.argv[1])).take_due().recipient, flush=True)
time.sleep(600)
"""


def test_a_sender_killed_in_the_middle_loses_nothing(publisher: Publisher, control_url: str, tmp_path: Path) -> None:
    request_id = publish(publisher, ANN)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _TAKER, control_url], stdout=subprocess.PIPE, text=True
    ) as sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == f"{ANN}\n"
        sender.kill()
    assert states(publisher, request_id) == {ANN: "sending"}
    assert deliver_due(services(publisher, Recorder(), tmp_path)) == 0  # it might still be alive
    assert SENDING_TIMEOUT.total_seconds() - 60 < seconds_until_due(publisher, request_id)
    make_due(publisher)
    assert publisher.deliveries.any_due()
    assert deliver_due(services(publisher, Recorder(), tmp_path)) == 1
    assert states(publisher, request_id) == {ANN: "delivered"}


def test_a_delivery_that_kills_every_sender_is_given_up(publisher: Publisher) -> None:
    request_id = publish(publisher, ANN)
    for _ in range(8):
        assert publisher.deliveries.take_due() is not None
        make_due(publisher)
    assert publisher.deliveries.take_due() is None
    [row] = publisher.deliveries.of_request(request_id)
    assert row["status"] == "failed"
    assert "no sender lived" in row["error_message"]
    assert not publisher.deliveries.any_due()


@pytest.mark.parametrize("final", [True, False])
def test_a_sender_taken_for_dead_cannot_undo_what_its_successor_did(publisher: Publisher, final: bool) -> None:
    request_id = publish(publisher, ANN)
    late = publisher.deliveries.take_due()
    make_due(publisher)
    successor = publisher.deliveries.take_due()
    assert late is not None
    assert successor is not None
    publisher.deliveries.not_delivered(late, message="too late", final=final)
    assert states(publisher, request_id) == {ANN: "sending"}
    publisher.deliveries.delivered(successor.id, receipt=Receipt(remote_id="r"))
    publisher.deliveries.not_delivered(late, message="too late", final=final)
    assert states(publisher, request_id) == {ANN: "delivered"}


def test_the_sensor_waits_for_the_run_that_published(publisher: Publisher) -> None:
    publish(publisher, ANN)
    assert not publisher.deliveries.any_due()
    publisher.change("UPDATE export_control.export_deliveries SET created_at = now() - interval '2 minutes'")
    assert publisher.deliveries.any_due()


def test_a_control_connection_that_breaks_while_sending_is_made_anew(
    publisher: Publisher, control_url: str, tmp_path: Path
) -> None:
    request_id = publish(publisher, ANN, BEN)

    class Cutting(Recorder):
        def send(self, message: Message) -> str:
            with psycopg.connect(control_url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            return super().send(message)

    mailer = Cutting()
    assert deliver_due(services(publisher, mailer, tmp_path)) == 2
    assert sorted(message.recipient for message in mailer.sent) == [ANN, BEN]
    assert states(publisher, request_id) == {ANN: "delivered", BEN: "delivered"}


def test_a_mail_whose_outcome_was_not_written_is_sent_again_as_the_same_message(
    publisher: Publisher, tmp_path: Path
) -> None:
    """At least once, and the Message-ID lets a receiver drop the repeat."""
    request_id = publish(publisher, ANN)

    class Interrupted(Recorder):
        def send(self, message: Message) -> str:
            super().send(message)
            raise KeyboardInterrupt

    first, second = Interrupted(), Recorder()
    with pytest.raises(KeyboardInterrupt):
        deliver_due(services(publisher, first, tmp_path))
    make_due(publisher)
    assert deliver_due(services(publisher, second, tmp_path)) == 1
    assert second.sent[0].message_id == first.sent[0].message_id
    assert states(publisher, request_id) == {ANN: "delivered"}


# Files ------------------------------------------------------------------------------------------------------------


class Died(BaseException):
    """Nothing that code expects."""


class Dying(FolderDestination):
    """Delivers, and dies before anybody can note it; counts how often it had to."""

    tries = 0

    def deliver(self, delivery: Delivery) -> Receipt:
        Dying.tries += 1
        super().deliver(delivery)
        raise Died


def to_folder(publisher: Publisher, tmp_path: Path) -> tuple[str, Path]:
    nas = tmp_path / "nas"
    nas.mkdir()
    return publisher.publish(deliveries=(PlannedDelivery(method="folder", recipient="nas"),)), nas


def test_a_second_try_first_asks_whether_the_first_has_happened(publisher: Publisher, tmp_path: Path) -> None:
    request_id, nas = to_folder(publisher, tmp_path)
    Dying.tries = 0
    here = services(publisher, Destinations(lambda _spec: Dying({"nas": nas})), tmp_path)
    with pytest.raises(Died):
        deliver_due(here)
    make_due(publisher)
    assert deliver_due(here) == 1
    assert Dying.tries == 1
    (row,) = publisher.deliveries.of_request(request_id)
    assert (row["status"], row["attempts"], row["receipt"]["duplicate_possible"]) == ("delivered", 2, False)
    assert len(list(nas.glob("*/*"))) == 1


def test_who_moves_much_keeps_its_claim_and_stops_when_it_is_lost(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_RENEW_SECONDS", 0)
    request_id, nas = to_folder(publisher, tmp_path)
    claims: list[float] = []

    class Slow(FolderDestination):
        def deliver(self, delivery: Delivery) -> Receipt:
            def still_ours() -> None:
                publisher.change("UPDATE export_control.export_deliveries SET due_at = now() + interval '1 second'")
                delivery.still_ours()
                claims.append(seconds_until_due(publisher, request_id))
                if len(claims) == 3:
                    make_due(publisher)
                    assert publisher.deliveries.take_due() is not None

            return super().deliver(replace(delivery, still_ours=still_ours))

    here = services(publisher, Destinations(lambda _spec: Slow({"nas": nas})), tmp_path)
    assert deliver_due(here) == 0
    assert len(claims) == 3
    assert min(claims) > SENDING_TIMEOUT.total_seconds() - 60
    assert list(nas.glob("*/*")) == []
    (row,) = publisher.deliveries.of_request(request_id)
    assert (row["status"], row["attempts"], row["error_message"]) == ("sending", 2, None)


def test_files_of_an_export_that_is_gone_are_not_delivered(publisher: Publisher, tmp_path: Path) -> None:
    request_id, nas = to_folder(publisher, tmp_path)
    publisher.requests.mark_deleted(request_id)
    here = services(publisher, open_destinations(Settings(EXPORT_FOLDERS=f"nas={nas}")), tmp_path)
    assert deliver_due(here) == 0
    (row,) = publisher.deliveries.of_request(request_id)
    assert (row["status"], row["error_message"]) == (
        "failed", "the export is expired; its files are no longer there to deliver",
    )  # fmt: skip


def test_a_delivery_of_a_kind_that_is_no_more_names_those_there_are(publisher: Publisher, tmp_path: Path) -> None:
    request_id = publisher.publish(deliveries=(PlannedDelivery(method="fax", recipient="1"),))
    assert deliver_due(services(publisher, Recorder(), tmp_path)) == 0
    (row,) = publisher.deliveries.of_request(request_id)
    assert row["status"] == "failed"
    assert row["error_message"] == "method: 'fax' is not a way to deliver; choose from download, email, folder"


def test_the_receipt_of_a_mail_says_when_an_earlier_sender_may_have_sent_it(
    publisher: Publisher, tmp_path: Path
) -> None:
    sure, doubtful = publish(publisher, ANN), publish(publisher, BEN)
    assert deliver_due(services(publisher, Recorder(Unavailable("down")), tmp_path), sure) == 0
    assert publisher.deliveries.take_due(doubtful) is not None  # and then its sender dies
    make_due(publisher)
    assert deliver_due(services(publisher, Recorder(), tmp_path)) == 2
    found = [publisher.deliveries.of_request(each)[0]["receipt"]["duplicate_possible"] for each in (sure, doubtful)]
    assert found == [False, True]


def test_a_file_larger_than_the_destination_takes_says_how_to_go_on(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "find_destination", lambda name: replace(find_destination(name), max_file_bytes=10))
    request_id, nas = to_folder(publisher, tmp_path)
    here = services(publisher, open_destinations(Settings(EXPORT_FOLDERS=f"nas={nas}")), tmp_path)
    assert deliver_due(here) == 0
    (row,) = publisher.deliveries.of_request(request_id)
    assert row["status"] == "failed"
    assert row["error_message"] == (
        "pets.csv has 20 bytes, Folder of the operator takes 10 bytes a file; split the files by size"
    )
    assert list(nas.iterdir()) == []
