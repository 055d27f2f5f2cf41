"""`/readyz` and the gauges behind it say which part does not work; a store is asked by writing, one call at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from export_pipelines.api.metrics import exposition
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.errors import Unavailable
from export_pipelines.core.naming import probe_prefix
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline.maintenance.probing import Probe, probe_store
from export_pipelines.settings import Settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.metrics import FigureStore
from export_pipelines.stores.service_state import ServiceStateStore
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.api.inside import Inside, inside
from export_pipelines_tests.control_database import emptied

PARTS = {"control_database", "object_store", "source", "daemon", "clock"}
LOOKED = "UPDATE export_control.service_state SET "


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("readiness")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as opened:
        yield opened


@pytest.fixture
def api(migrated: str, control: ControlDatabase, tmp_path: Path) -> Iterator[Inside]:
    """An API whose store is asked anew with each call."""
    settings = Settings(EXPORT_CONTROL_URL=migrated, EXPORT_HOME=tmp_path)
    with inside(settings, {}) as found:
        services = found.app.state.services
        unbuffered = Probe(lambda: probe_store(services.store), fresh_seconds=0)
        found.app.state.services = services.having(store_probe=unbuffered)
        yield found


def ready(api: Inside) -> tuple[int, str, set[str]]:
    """Status code, status, and the parts that are unavailable."""
    answer = api.ask("", "GET", "/readyz")
    reported = answer.json()
    assert reported.keys() == PARTS | {"status"}
    return answer.status_code, reported["status"], {part for part in PARTS if reported[part] == "unavailable"}


def test_all_is_well_before_the_daemon_has_looked_and_after(api: Inside, control: ControlDatabase) -> None:
    assert api.ask("", "GET", "/readyz").json()["daemon"] == "unknown"
    assert ready(api) == (200, "ok", set())
    ServiceStateStore(control).look(daemons={"SENSOR": time.time()})
    assert ready(api) == (200, "ok", set())
    assert api.ask("", "GET", "/readyz").json()["daemon"] == "ok"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("looked_at = now() - interval '3 min'", "daemon"),
        ("""daemons = '{"SENSOR": 1.0}'""", "daemon"),
        ("looked_at = now() + interval '10 min', daemons = '{}'", "clock"),
        ("ahead_since = 1, step_seconds = 600", "clock"),
        ("skew_seconds = 31", "clock"),
        ("skew_seconds = -31", "clock"),
        ("source_down_since = now()", "source"),
    ],
)
def test_what_stops_only_the_work_behind_the_api_degrades_it(
    change: str, part: str, api: Inside, control: ControlDatabase
) -> None:
    ServiceStateStore(control).look()
    control.rows(LOOKED + change)
    assert ready(api) == (200, "degraded", {part})


def test_a_store_that_takes_no_objects_makes_the_api_unavailable_until_it_does(api: Inside, tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file where the folder should be")
    assert ready(api) == (503, "unavailable", {"object_store"})
    (tmp_path / "objects").unlink()
    assert ready(api) == (200, "ok", set())
    assert list((tmp_path / "objects").iterdir()) == []  # no probe is left


def test_a_full_store_is_found_by_writing(tmp_path: Path, small_files: int) -> None:
    with pytest.raises(Unavailable, match="takes no objects"):
        probe_store(LocalStore(tmp_path))
    assert small_files < 1024
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file of this process can have more than a few bytes, as if the disk were full."""
    import resource
    import signal

    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield 100
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


class Corrupting(LocalStore):
    """Gives back other bytes than were written."""

    def reading(self, key: str) -> Any:
        self._path(key).write_bytes(b"other")
        return super().reading(key)


def test_a_store_that_gives_back_other_bytes_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="other bytes"):
        probe_store(Corrupting(tmp_path))


def test_a_probe_leaves_nothing_in_a_store(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    probe_store(store)
    assert list(store.scan("")) == []
    assert not (tmp_path / probe_prefix()).exists()


def test_a_control_database_that_does_not_answer_makes_the_api_unavailable(tmp_path: Path) -> None:
    settings = Settings(EXPORT_CONTROL_URL="postgresql://nobody@127.0.0.1:9/none", EXPORT_HOME=tmp_path)
    with inside(settings, {}) as api:
        services = api.app.state.services
        pool = ControlPool(settings.require_api_url())
        pool._pool.timeout = 0.2  # nobody waits that long for a refused connection
        api.app.state.services = services.having(pool=pool)
        pool.open()
        try:
            answer = api.ask("", "GET", "/readyz")
        finally:
            pool.close()
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert answer.json()["control_database"] == "unavailable"
    assert answer.json()["daemon"] == "unknown"


# One at a time ----------------------------------------------------------------------------------------------------


def test_many_who_ask_at_once_cause_one_probe(tmp_path: Path) -> None:
    calls, all_asked = [], threading.Event()

    def slow() -> None:
        calls.append(1)
        all_asked.wait(10)

    probe = Probe(slow, timeout_seconds=10)
    threads = [threading.Thread(target=probe) for _ in range(8)]
    for thread in threads:
        thread.start()
    all_asked.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_probe_that_hangs_is_answered_in_time_and_never_begun_twice() -> None:
    calls, over = [], threading.Event()

    def hanging() -> None:
        calls.append(1)
        over.wait(30)

    probe = Probe(hanging, timeout_seconds=0.05, fresh_seconds=0)
    for _ in range(3):
        with pytest.raises(Unavailable, match="no answer within"):
            probe()
    over.set()
    assert len(calls) == 1


@pytest.mark.parametrize("error", [None, Unavailable("full"), RuntimeError("unforeseen")])
def test_an_answer_is_good_for_a_while(error: Exception | None) -> None:
    calls, now = [], [100.0]

    def counted() -> None:
        calls.append(1)
        if error is not None:
            raise error

    probe = Probe(counted, fresh_seconds=5, clock=lambda: now[0])
    for at, expected in ((100.0, 1), (105.0, 1), (105.1, 2)):
        now[0] = at
        if error is None:
            probe()
        else:
            with pytest.raises(Unavailable, match=str(error)):
                probe()
        assert len(calls) == expected


# Metrics ----------------------------------------------------------------------------------------------------------


def test_operators_see_clock_daemons_and_outages(migrated: str, control: ControlDatabase) -> None:
    ServiceStateStore(control).look(daemons={"SENSOR": time.time() - 40})
    control.rows(
        LOOKED + "looked_at = now() - interval '20 s', ahead_since = 1, step_seconds = 600, skew_seconds = -2, "
        "steps_forward = 3, steps_back = 2, store_down_since = now(), source_down_since = NULL"
    )
    pool = ControlPool(migrated)
    pool.open()
    operator = Caller(role=Role.OPERATOR, tenant_id=None, user_id="oscar", credential="key")
    with closing(pool), pool.tenant_session(operator) as acting:
        text = exposition(FigureStore(acting))[0].decode()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    reported = {name.removeprefix("export_pipelines_"): float(value) for name, value in found.items()}
    assert reported["sensor_silence_seconds"] == pytest.approx(20, abs=10)
    assert reported['daemon_silence_seconds{daemon="sensor"}'] == pytest.approx(40, abs=10)
    assert (reported["clock_ahead_seconds"], reported["clock_skew_seconds"]) == (600, -2)
    assert (reported['clock_steps_total{direction="forward"}'], reported['clock_steps_total{direction="back"}']) == (
        3,
        2,
    )
    assert (reported['outage{of="store"}'], reported['outage{of="source"}']) == (1, 0)
