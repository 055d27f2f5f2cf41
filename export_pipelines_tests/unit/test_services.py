"""Services as settings open them: each part once, closed by whoever opened it, and nothing connects before its use."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from export_pipelines.api.services import ApiServices, open_api_services
from export_pipelines.core.errors import RequestRejected
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.object_stores.s3 import S3Store
from export_pipelines.pipeline import services as module
from export_pipelines.pipeline.services import ExportServices, Services, open_services, part
from export_pipelines.settings import Settings, load_settings

NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


class Connection:
    def __init__(self, name: str, closed: list[str]) -> None:
        self.name = name
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self.name)


class Toys(Services):
    """Two connections, of which the second needs the first."""

    def __init__(self, settings: Settings, **given: Any) -> None:
        super().__init__(settings, **given)
        self.closed: list[str] = []
        self.opened: list[str] = []

    def _connection(self, name: str) -> Connection:
        self.opened.append(name)
        time.sleep(0.02)  # as if it connected
        return Connection(name, self.closed)

    @part
    def first(self) -> Connection:
        return self._connection("first")

    @part
    def second(self) -> tuple[Connection, Connection]:
        return self.first, self._connection("second")

    @part
    def third(self) -> Connection:
        assert self.first
        return self._connection("third")


def test_a_setting_that_has_another_name_by_now_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({"EXPORT_RETENTION_DAYS": 2}).keep.days == 2
    monkeypatch.setenv("EXPORT_KEEP_SECONDS", "7200")
    with pytest.raises(RequestRejected, match="EXPORT_KEEP_SECONDS: is not a setting any more; set EXPORT_RETENTION_D"):
        load_settings()


def test_a_part_is_opened_when_it_is_first_used_and_once() -> None:
    toys = Toys(Settings())
    assert toys.opened == []
    assert toys.second is toys.second
    assert toys.opened == ["first", "second"]


def test_threads_that_ask_at_once_get_the_same_part() -> None:
    toys, together = Toys(Settings()), Barrier(8)

    def asked(_: int) -> Connection:
        together.wait()
        return toys.third

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(asked, range(8)))) == 1
    assert toys.opened == ["first", "third"]


def test_what_was_opened_is_closed_once_the_newest_first_and_can_be_opened_again() -> None:
    with Toys(Settings()) as toys:
        assert toys.third
    assert toys.closed == ["third", "first"]
    toys.close()
    assert toys.closed == ["third", "first"]
    assert toys.first.name == "first"
    assert toys.opened == ["first", "third", "first"]


def test_a_part_that_cannot_be_closed_leaves_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    toys = Toys(Settings())

    def broken() -> None:
        raise OSError("gone")

    monkeypatch.setattr(toys.third, "close", broken)
    with pytest.raises(OSError, match="gone"):
        toys.close()
    assert toys.closed == ["first"]


def test_what_was_given_stays_its_givers_to_close() -> None:
    closed: list[str] = []
    given = Connection("given", closed)
    with Toys(Settings(), first=given) as toys:
        assert (toys.first, toys.third.name) == (given, "third")
    assert (closed, toys.closed) == ([], ["third"])


def test_a_view_shares_all_that_it_does_not_replace() -> None:
    """What it opens is the original's, which closes it: nothing is left to a view that nobody closes."""
    toys, given = Toys(Settings()), Connection("given", [])
    other = Settings(EXPORT_LINK_TTL="90")
    view = toys.having(first=given, settings=other)
    assert (view.first, view.settings, toys.settings.link_ttl) == (given, other, 604_800)
    assert view.third is toys.third
    assert toys.first is not given
    toys.close()
    assert toys.closed == ["third", "first"]
    assert view.third is toys.third
    view.close()
    assert toys.closed == ["third", "first", "third", "first"]


def test_a_part_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="ExportServices has no part mail, settings_"):
        open_services(Settings(), mail=None, settings_=None)
    with pytest.raises(TypeError, match="no part formats"):
        open_services(Settings()).having(formats=None)


def test_nothing_connects_before_it_is_used(tmp_path: Path) -> None:
    settings = Settings(EXPORT_HOME=tmp_path, EXPORT_CONTROL_URL=NOWHERE, EXPORT_SOURCE_URL=NOWHERE)
    with open_services(settings) as services:
        services.open_all()
    open_api_services(settings).close()


def test_a_part_without_its_setting_names_the_variable() -> None:
    services = open_services(Settings())
    with pytest.raises(RequestRejected, match=r"^EXPORT_CONTROL_URL: is not set"):
        _ = services.requests
    with pytest.raises(RequestRejected, match=r"^EXPORT_SOURCE_URL: is not set"):
        _ = services.source
    assert not services.destinations.configured("email")


def test_the_api_has_no_connection_that_is_not_a_callers() -> None:
    """Row-level security does not bind the service's own login."""
    unbound = ("control", "requests", "exclusively", "reading_control")
    assert [name for name in unbound if hasattr(ApiServices, name)] == []
    assert [name for name in unbound if not hasattr(ExportServices, name)] == []


def test_the_clients_of_an_object_store_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr(S3Store, "close", lambda _: closed.append("s3"))
    with open_services(Settings(EXPORT_STORAGE_URL="s3://bucket/prefix", S3_REGION="eu-central-1")) as services:
        assert isinstance(services.store, S3Store)
    assert closed == ["s3"]
    assert not isinstance(LocalStore(Path()), module.Closeable)  # has nothing to close
