"""Publishing when the lock, the request or the export is lost meanwhile: nobody takes another run's package away."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import pytest

from export_pipelines.core.errors import Unavailable
from export_pipelines.core.model import Package
from export_pipelines.core.naming import export_prefix
from export_pipelines.core.status import RequestStatus
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline.publish import publish as publishing_step
from export_pipelines.pipeline.publish.publish import abandon
from export_pipelines.pipeline.publish.removal import remove_objects
from export_pipelines.stores.control import Lock
from export_pipelines.stores.requests import RequestStore
from export_pipelines_tests.workshop import Workshop

PETS = {"tables": ["pets"], "format": "csv"}
PATHS = ("data/pets.csv", "manifest.json")
SUCCESSORS = b"the successor's"


def prefix_of(workshop: Workshop, request_id: str) -> str:
    request = workshop.services.requests.get(request_id)
    return export_prefix(workshop.scope(), "selective", request.created_at, request_id)


def published_by(workshop: Workshop, request_id: str, run_id: str) -> None:
    """The queued request taken and completed by that run."""
    requests, prefix = workshop.services.requests, prefix_of(workshop, request_id)
    assert requests.claim(request_id, attempt=requests.get(request_id).attempt, run_id=run_id)
    for path in PATHS:
        with workshop.services.store.writing(f"{prefix}/{path}") as sink:
            sink.write(SUCCESSORS)
    package = Package(prefix=prefix, files=(), manifest_sha256="", rows=0, size_bytes=0)
    assert requests.complete(request_id, run_id=run_id, package=package, deliveries=(), keep=dt.timedelta(days=1))


def fail_over(workshop: Workshop) -> None:
    """Every lock is forgotten."""
    with psycopg.connect(workshop.settings.require_control_url(), autocommit=True) as connection:
        ended = connection.execute(
            """
            SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
            WHERE l.locktype = 'advisory' AND d.datname = current_database()
            """
        ).fetchall()
    assert ended == [(True,)]


def test_a_run_that_lost_its_lock_leaves_its_successors_package_alone(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = workshop.order(PETS)
    prefix, move_all, moved = prefix_of(workshop, request_id), LocalStore.move_all, []

    def taken_over(self: LocalStore, moves: Iterable[tuple[str, str]]) -> None:
        move_all(self, watched(moves))

    def watched(moves: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for source, target in moves:
            yield source, target  # and moved when the next one is asked for
            if not target.startswith(prefix):
                continue
            moved.append(target)
            if len(moved) == 1:
                requests = workshop.services.requests
                fail_over(workshop)
                run_id = requests.get(request_id).run_id
                assert requests.requeue(request_id, attempt=1, run_id=run_id, error_type="lost", message="silent")
                published_by(workshop, request_id, "successor")

    monkeypatch.setattr(LocalStore, "move_all", taken_over)
    workshop.run(request_id)
    assert len(moved) == 1
    request = workshop.services.requests.get(request_id)
    assert (request.status, request.run_id) == (RequestStatus.COMPLETED, "successor")
    for path in PATHS:
        assert (workshop.objects / prefix / path).read_bytes() == SUCCESSORS


def test_a_package_whose_completion_was_not_answered_stays(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control database commits and goes away before it can say so."""
    complete = RequestStore.complete

    def unanswered(self: RequestStore, request_id: str, **named: Any) -> bool:
        complete(self, request_id, **named)
        raise Unavailable("control database does not answer")

    monkeypatch.setattr(RequestStore, "complete", unanswered)
    request = workshop.export(PETS)
    assert request.status is RequestStatus.COMPLETED
    assert (workshop.package(request) / "manifest.json").exists()


def test_what_a_failed_move_leaves_is_taken_away(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    move_all = LocalStore.move_all

    def full(self: LocalStore, moves: Iterable[tuple[str, str]]) -> None:
        move_all(self, until_full(moves))

    def until_full(moves: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for source, target in moves:
            if target.endswith("manifest.json"):
                raise Unavailable("the store is full")
            yield source, target

    monkeypatch.setattr(LocalStore, "move_all", full)
    request_id = workshop.order(PETS)
    workshop.run(request_id)
    assert workshop.services.requests.get(request_id).status is RequestStatus.QUEUED
    assert workshop.object_keys() == []


def test_what_is_published_while_an_attempt_is_abandoned_stays(workshop: Workshop) -> None:
    """Between the look at the failed request and the removal somebody retries it, and it publishes."""
    services = workshop.services
    request_id = workshop.order(PETS)
    assert services.requests.fail(request_id, attempt=1, run_id=None, error_type="lost", message="gone")
    failed = services.requests.get(request_id)

    def after_a_retry(name: str) -> AbstractContextManager[Lock]:
        services.requests.retry(request_id)
        published_by(workshop, request_id, "retry")
        return services.exclusively(name)

    abandon(failed, services.requests, services.store, after_a_retry)
    prefix = prefix_of(workshop, request_id)
    assert sorted(workshop.object_keys()) == [f"{prefix}/{path}" for path in PATHS]


def test_half_a_package_of_an_abandoned_attempt_goes(workshop: Workshop) -> None:
    services = workshop.services
    request_id = workshop.order(PETS)
    with services.store.writing(f"{prefix_of(workshop, request_id)}/data/pets.csv") as sink:
        sink.write(b"half")
    abandon(services.requests.get(request_id), services.requests, services.store, services.exclusively)
    assert len(workshop.object_keys()) == 1  # the next attempt clears it
    assert services.requests.fail(request_id, attempt=1, run_id=None, error_type="lost", message="gone")
    abandon(services.requests.get(request_id), services.requests, services.store, services.exclusively)
    assert workshop.object_keys() == []


@pytest.mark.parametrize("lost", ["deleted", "unanswered"])
def test_rows_of_an_export_that_is_deleted_at_once_are_not_kept(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Deleted when it was public and its rows were not yet where the deletion looks for them."""
    services = workshop.services

    def deleted(*_: Any) -> None:
        [request] = services.requests.list()
        remove_objects(services.requests.mark_deleted(request.id), services.store)

    def unanswered(_self: RequestStore, _request_id: str) -> None:
        raise Unavailable("control database does not answer")

    def begin(*_: Any) -> None:
        monkeypatch.setattr(RequestStore, "get", unanswered)

    get = RequestStore.get
    monkeypatch.setattr(publishing_step, "remember", deleted if lost == "deleted" else begin)
    request_id = workshop.order(PETS)
    workshop.run(request_id)
    monkeypatch.setattr(RequestStore, "get", get)
    assert [key for key in workshop.object_keys() if key.startswith("canonical/")] == []
    assert services.requests.get(request_id).package_prefix
