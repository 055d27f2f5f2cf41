"""Expiry: packages go when their time is over or an admin says so, links with them, and nobody else's with them."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from export_pipelines.api.app import create_app
from export_pipelines.cli import app as command_line
from export_pipelines.core.access import ALLOWED, Action, Caller, Role
from export_pipelines.core.errors import Unavailable
from export_pipelines.core.model import TenantScope
from export_pipelines.core.naming import canonical_prefix
from export_pipelines.core.status import RequestStatus
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline.publish.removal import expire_due, remove_unremoved
from export_pipelines.settings import Settings
from export_pipelines.stores.audit import AuditFilter, AuditLog
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.retention import Older, RetentionStore
from export_pipelines_tests.published import FILES, Publisher

PACKAGE_BYTES = sum(map(len, FILES.values()))
CALLERS = {
    "member": Caller(role=Role.MEMBER, tenant_id="ours", user_id="ann", credential="key"),
    "admin": Caller(role=Role.ADMIN, tenant_id="ours", user_id="admin", credential="key"),
    "operator": Caller(role=Role.OPERATOR, credential="key"),
}
Ask = Callable[..., httpx.Response]


@pytest.fixture
def publisher(control_url: str, tmp_path: Path) -> Iterator[Publisher]:
    with closing(ControlDatabase(control_url)) as control:
        yield Publisher(control=control, store=LocalStore(tmp_path / "objects"))


@pytest.fixture
def retention(publisher: Publisher) -> RetentionStore:
    return RetentionStore(publisher.control)


def clean(publisher: Publisher) -> None:
    """What the nightly cleanup does about expired exports."""
    retention = RetentionStore(publisher.control)
    expire_due(retention)
    remove_unremoved(retention, publisher.requests, publisher.store)


def aged(publisher: Publisher, days: float, *, tenant: str = "ours") -> str:
    """A finished export of that age, with rows kept for conversions."""
    request_id = publisher.publish(tenant=tenant)
    with publisher.store.writing(f"{canonical_prefix(TenantScope(tenant_id=tenant), request_id)}/stage.json") as sink:
        sink.write(b"{}")
    publisher.change(
        """
        UPDATE export_control.export_requests
        SET completed_at = now() - %(age)s, expires_at = now() - %(age)s + interval '30 days' WHERE id = %(id)s
        """,
        id=request_id,
        age=dt.timedelta(days=days),
    )
    return request_id


def status(publisher: Publisher, request_id: str) -> RequestStatus:
    return publisher.requests.get(request_id).status


def holders(publisher: Publisher) -> set[str]:
    """Requests that have objects."""
    return {part for key, _ in publisher.store.list("") for part in key.split("/") if len(part) == 36}


# The nightly cleanup ------------------------------------------------------------------------------------------------


def test_an_export_past_its_time_expires_with_its_objects_and_links(publisher: Publisher) -> None:
    over, lives = aged(publisher, 31), aged(publisher, 29)
    dead, alive = publisher.link(over), publisher.link(lives)
    clean(publisher)
    assert (status(publisher, over), status(publisher, lives)) == ("expired", "completed")
    assert holders(publisher) == {lives}
    assert publisher.links.follow(dead) is None
    assert publisher.links.follow(alive) is not None
    assert [event["new_status"] for event in publisher.requests.events(over)][-1] == "expired"


def test_what_a_delete_left_is_removed(publisher: Publisher) -> None:
    """The API marked it and died before it had removed the objects."""
    deleted = aged(publisher, 1)
    publisher.requests.mark_deleted(deleted)
    clean(publisher)
    assert holders(publisher) == set()


def test_cleaning_twice_removes_nothing_more(publisher: Publisher) -> None:
    aged(publisher, 31)
    clean(publisher)
    lives = aged(publisher, 1)
    clean(publisher)
    assert holders(publisher) == {lives}
    assert RetentionStore(publisher.control).unremoved() == []


def test_cleanups_at_the_same_time_share_the_work(publisher: Publisher, control_url: str) -> None:
    over = [aged(publisher, 31) for _ in range(12)]
    lives = aged(publisher, 1)
    start = threading.Barrier(3)

    def work() -> int:
        with closing(ControlDatabase(control_url)) as control:
            mine = Publisher(control=control, store=publisher.store)
            start.wait()
            expired = expire_due(RetentionStore(control)).exports
            remove_unremoved(RetentionStore(control), mine.requests, mine.store)
            return expired

    with ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(lambda _: work(), range(3))) == len(over)
    assert holders(publisher) == {lives}


@pytest.mark.parametrize("step", ["expire_due", "unremoved", "delete", "objects_removed"])
def test_a_cleanup_that_dies_at_any_step_is_finished_by_the_next(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    over, lives = [aged(publisher, 31) for _ in range(3)], aged(publisher, 1)
    part: Any = next(kind for kind in (RetentionStore, LocalStore, type(publisher.requests)) if hasattr(kind, step))
    original = getattr(part, step)

    def dying(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(part, step, dying)
        with pytest.raises(Killed):
            clean(publisher)
    clean(publisher)
    assert holders(publisher) == {lives}
    assert {status(publisher, request_id) for request_id in over} == {"expired"}


def test_an_export_that_a_conversion_reads_is_removed_when_it_has_ended(publisher: Publisher) -> None:
    first = aged(publisher, 31)
    between = publisher.requests.insert(tenant_id="ours", config={"convert": first, "format": "json"})
    publisher.requests.fail(between, attempt=1, run_id=None, error_type="lost", message="gone")
    conversion = publisher.requests.insert(tenant_id="ours", config={"convert": between.upper(), "format": "csv"})
    publisher.requests.insert(tenant_id="ours", config={"convert": "no id", "format": "csv"})
    clean(publisher)
    assert status(publisher, first) == "expired"
    assert holders(publisher) == {first}
    publisher.requests.request_cancel(conversion)
    clean(publisher)
    assert holders(publisher) == set()


@pytest.mark.parametrize(
    "written",
    [str.upper, lambda text: text.replace("-", ""), "urn:uuid:{}".format, "{{{}}}".format],
    ids=["capitals", "no dashes", "urn", "braces"],
)
def test_a_conversion_is_found_however_its_id_was_written(publisher: Publisher, written: Callable[[str], str]) -> None:
    """By our own insert, which writes it in one form, and by the host application's, which does not."""
    ours, hosts = aged(publisher, 31), aged(publisher, 31)
    config = {"convert": written(ours), "format": "csv"}
    assert publisher.requests.insert(tenant_id="ours", config=config, idempotency_key="k")
    [inserted] = publisher.requests.list(status=RequestStatus.QUEUED)
    assert inserted.config["convert"] == ours
    publisher.change(
        "INSERT INTO export_control.export_requests (tenant_id, config) VALUES ('ours', %(config)s)",
        config=json.dumps({"convert": written(hosts), "format": "csv"}),
    )
    clean(publisher)
    assert holders(publisher) == {ours, hosts}


def test_one_export_that_cannot_be_removed_does_not_keep_the_others(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = [aged(publisher, 31) for _ in range(4)]
    delete = LocalStore.delete

    def failing(self: LocalStore, prefix: str) -> int:
        if over[0] in prefix:
            raise Unavailable("not this one")
        return delete(self, prefix)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "delete", failing)
        with pytest.raises(Unavailable, match="of 1 exports could not be removed"):
            clean(publisher)
    assert holders(publisher) == {over[0]}
    clean(publisher)
    assert holders(publisher) == set()


def test_a_store_that_is_down_is_not_asked_for_every_export(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        aged(publisher, 31)
    asked: list[str] = []

    def down(_self: LocalStore, prefix: str) -> int:
        asked.append(prefix)
        raise Unavailable("down")

    monkeypatch.setattr(LocalStore, "delete", down)
    with pytest.raises(Unavailable, match="down"):
        clean(publisher)
    assert len(asked) == 3


def test_large_numbers_expire_in_batches(publisher: Publisher, retention: RetentionStore) -> None:
    over = [aged(publisher, 31) for _ in range(5)]
    assert retention.due().exports == len(over)
    assert [retention.expire_due(limit=2).exports for _ in range(4)] == [2, 2, 1, 0]


# By an admin --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(control_url: str, publisher: Publisher, tmp_path: Path) -> Iterator[Ask]:
    """``ask(who, **body)`` calls for a cleanup, ``ask(who, get=path)`` for anything."""
    made = create_app(Settings(EXPORT_CONTROL_URL=control_url, EXPORT_HOME=tmp_path))
    made.state.services = made.state.services.having(authenticate=lambda name, _ip: CALLERS[str(name)])
    made.state.services.pool.open()

    def send(who: str, *, get: str = "", headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://test") as client:
                given = {"Authorization": who, **(headers or {})}
                if get:
                    return await client.get(f"/api/v1/exports/{get}", headers=given)
                return await client.post("/api/v1/exports/cleanup", headers=given, json=body)

        return asyncio.run(sent())

    yield send
    made.state.services.close()


def test_an_admin_removes_old_exports_of_the_own_tenant_only(publisher: Publisher, ask: Ask) -> None:
    old, young, foreign = aged(publisher, 10), aged(publisher, 3), aged(publisher, 10, tenant="theirs")
    link = publisher.link(old)
    body = {"older_than_days": 7, "keep_scheduled": True}
    reported = ask("admin", **body, dry_run=True).json()
    assert reported == {
        "exports_deleted": 1, "space_freed_gb": round(PACKAGE_BYTES / 1e9, 6), "dry_run": True, "remaining": 0
    }  # fmt: skip
    assert holders(publisher) == {old, young, foreign}
    assert ask("admin", **body).json() == {**reported, "dry_run": False}
    assert holders(publisher) == {young, foreign}
    assert publisher.links.follow(link) is None
    assert ask("admin", **body).json()["exports_deleted"] == 0
    entries = AuditLog(publisher.control).list(AuditFilter(action=Action.CLEAN_UP), limit=10)
    assert [json.loads(entry.detail)["exports_deleted"] for entry in entries] == [0, 1, 1]


def test_a_cleanup_with_a_key_happens_once(publisher: Publisher, ask: Ask) -> None:
    aged(publisher, 10)
    first = ask("admin", older_than_days=7, headers={"Idempotency-Key": "tidy"})
    again = ask("admin", older_than_days=7, headers={"Idempotency-Key": "tidy"})
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"


def test_what_is_past_its_time_is_not_handed_out_though_nobody_has_removed_it_yet(
    publisher: Publisher, ask: Ask
) -> None:
    over, lives = aged(publisher, 31), aged(publisher, 29)
    assert ask("admin", get=f"jobs/{lives}/download/0").status_code == 200
    for path in ("download", "download/0"):
        refused = ask("admin", get=f"jobs/{over}/{path}")
        assert (refused.status_code, refused.json()["field"]) == (409, "job_id")
        assert "expired" in refused.json()["detail"]


def test_a_store_that_is_down_costs_the_answer_nothing(
    publisher: Publisher, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = aged(publisher, 10)

    def down(_self: LocalStore, _prefix: str) -> int:
        raise Unavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "delete", down)
        assert ask("admin", older_than_days=7).json()["exports_deleted"] == 1
    assert holders(publisher) == {old}
    clean(publisher)
    assert holders(publisher) == set()


@pytest.mark.parametrize("who", ["member", "operator"])
def test_only_admins_clean_up(publisher: Publisher, ask: Ask, who: str) -> None:
    old = aged(publisher, 10)
    assert ask(who, older_than_days=1).status_code == 403
    assert holders(publisher) == {old}
    assert {role for role in Role if Action.CLEAN_UP in ALLOWED[role]} == {Role.ADMIN}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"older_than_days": 0},
        {"older_than_days": True},
        {"older_than_days": 36_501},
        {"older_than_days": 9, "dry_run": "no"},
        {"older_than_days": 9, "tenant": "theirs"},
    ],
)
def test_a_cleanup_without_a_clear_age_is_refused(publisher: Publisher, ask: Ask, body: dict[str, Any]) -> None:
    old = aged(publisher, 10)
    assert ask("admin", **body).status_code == 422
    assert holders(publisher) == {old}


# By an operator -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(
    control_url: str, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    monkeypatch.setenv("EXPORT_CONTROL_URL", control_url)
    monkeypatch.setenv("EXPORT_SOURCE_URL", control_url)  # never asked
    monkeypatch.setenv("EXPORT_HOME", str(tmp_path))

    def command(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(command_line, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return command


def test_the_command_cleans_up_one_tenant_or_all(publisher: Publisher, run: Callable[..., dict[str, Any]]) -> None:
    ours, theirs, young = aged(publisher, 10), aged(publisher, 10, tenant="theirs"), aged(publisher, 3)
    arguments = ("cleanup", "--older-than-days", "7")
    reported = run(*arguments, "--dry-run")
    assert reported == {"exports_deleted": 2, "package_bytes": 2 * PACKAGE_BYTES, "removed": None}
    assert holders(publisher) == {ours, theirs, young}
    assert run(*arguments, "--tenant", "theirs")["exports_deleted"] == 1
    assert holders(publisher) == {ours, young}
    assert run(*arguments, "--no-keep-scheduled")["removed"]["items"] == len(FILES) + 1
    assert holders(publisher) == {young}
    entries = AuditLog(publisher.control).list(AuditFilter(action=Action.CLEAN_UP), limit=10)
    assert [(entry.tenant_id, entry.user_id.split(":")[0]) for entry in entries] == [(None, "cli"), ("theirs", "cli")]


def scheduled(publisher: Publisher, request_id: str) -> None:
    """As if a schedule had made it."""
    publisher.change(
        """
        WITH made AS (
            INSERT INTO export_control.export_schedules (tenant_id, owner, name, config, cron, timezone, next_fire_at)
            SELECT tenant_id, 'admin', 'Nightly', config, '0 3 * * *', 'UTC', now() FROM export_control.export_requests
            WHERE id = %(id)s RETURNING id
        )
        UPDATE export_control.export_requests SET schedule_id = (SELECT id FROM made) WHERE id = %(id)s
        """,
        id=request_id,
    )


@pytest.mark.parametrize("who", ["admin", "operator"])
def test_what_a_schedule_made_stays_unless_said_otherwise(
    publisher: Publisher, ask: Ask, run: Callable[..., dict[str, Any]], who: str
) -> None:
    """Whichever door: who leaves it out loses no backup."""
    _, backup = aged(publisher, 10), aged(publisher, 10)
    scheduled(publisher, backup)

    def gone(*, keep: bool | None = None, dry_run: bool = False) -> int:
        if who == "admin":
            asked = {"older_than_days": 7, "dry_run": dry_run, "keep_scheduled": keep}
            answer = ask("admin", **{name: value for name, value in asked.items() if value is not None}).json()
        else:
            reported = {None: (), True: ("--keep-scheduled",), False: ("--no-keep-scheduled",)}[keep]
            answer = run("cleanup", "--older-than-days", "7", *reported, *(["--dry-run"] if dry_run else []))
        return int(answer["exports_deleted"])

    assert [gone(keep=keep, dry_run=True) for keep in (None, True, False)] == [1, 1, 2]
    assert gone() == 1
    assert holders(publisher) == {backup}
    assert [gone(keep=False, dry_run=True), gone(keep=False)] == [1, 1]
    assert holders(publisher) == set()


def test_an_age_beyond_the_calendar_is_refused(run: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(AssertionError, match="36500"):
        run("cleanup", "--older-than-days", "99999999")


def test_older_is_counted_from_completion(publisher: Publisher, retention: RetentionStore) -> None:
    aged(publisher, 6.9)
    assert retention.older(Older.than(7)).exports == 0
    aged(publisher, 7.1)
    assert retention.older(Older.than(7)).exports == 1
