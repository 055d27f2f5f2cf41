"""Runs the service's processes as children of one foreground process and stops them together.

Each child has a process group of its own, so that a terminal's Ctrl-C reaches only the parent, which decides the
order; and on Linux the kernel interrupts a child whose parent was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import Request, urlopen

import yaml

from export_pipelines.allocators import ENVIRONMENT
from export_pipelines.core.errors import Unavailable
from export_pipelines.core.run_launchers import choose_run_launcher
from export_pipelines.embedded.os_account import make_folder
from export_pipelines.embedded.trimming import trim_logs
from export_pipelines.embedded.workplace import Workplace
from export_pipelines.settings import Settings

HOST = "127.0.0.1"
SERVICES_LOCK = "services.lock"
START_TIMEOUT_SECONDS = 90
STOP_TIMEOUT_SECONDS = 15
RESTART_SECONDS = 3  # a service that cannot start must not keep the machine busy with trying
_POLL_SECONDS = 0.2
_RUN_STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_OPEN_RUN = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
_LOG_TAIL_BYTES = 2000
_SOCKET_FOLDER_BYTES = 90  # the path of a socket may have 107
_CHILD = Path(__file__).with_name("child.py")


def _private(path: str, flags: int) -> int:
    """A file that only this account can read: output may name tenants."""
    return os.open(path, flags, 0o600)


@dataclass
class Child:
    """One service process and the file its output goes to."""

    name: str
    command: list[str]
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started_at: float = 0.0

    def start(self) -> None:
        """Start, or start again after it ended."""
        self.started_at = time.monotonic()
        launcher = [sys.executable, str(_CHILD), str(os.getpid()), str(os.getuid()), str(os.getgid())]
        with open(self.log, "ab", opener=_private) as output:
            self.process = subprocess.Popen(
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def signal(self, number: int) -> None:
        """To the child and all that it started."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return

    def tail(self) -> str:
        """The last lines of its output."""
        with self.log.open("rb") as output:
            output.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return output.read().decode(errors="replace").strip()


@dataclass(frozen=True, kw_only=True)
class Services:
    """Dagster's code server, webserver and daemon, and the API."""

    children: tuple[Child, ...]
    ui_url: str
    api_url: str
    logs: Path

    def child(self, name: str) -> Child:
        return next(child for child in self.children if child.name == name)

    def run_is_open(self, run_id: str) -> bool:
        """Whether Dagster still works on a run, by its webserver."""
        body = json.dumps({"query": _RUN_STATUS, "variables": {"id": run_id}}).encode()
        question = Request(f"{self.ui_url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310 - loopback
        with urlopen(question, timeout=10) as answer:  # noqa: S310 - loopback
            run = json.load(answer)["data"]["runOrError"]
        return run.get("status") in _OPEN_RUN

    def trim_logs(self) -> None:
        """Keep the processes' logs within their limit."""
        trim_logs(child.log for child in self.children)

    def revive(self) -> list[str]:
        """Start again whatever ended, each at most every few seconds; the names of those."""
        now = time.monotonic()
        ended = [c for c in self.children if c.ended() and now - c.started_at > RESTART_SECONDS]
        for child in ended:
            child.start()
        return [child.name for child in ended]


@contextmanager
def running_services(workplace: Workplace) -> Iterator[Services]:
    """All services, answering; stopped in reverse order when the context ends.

    `Unavailable` when another process runs the services of this home: two daemons would launch every run twice.
    """
    with _alone(workplace.settings.home):
        yield from _running(workplace)


def _running(workplace: Workplace) -> Iterator[Services]:
    with socket_folder(workplace.settings.home) as folder:
        yield from _started(describe(workplace, folder / "code.sock"))


def _started(services: Services) -> Iterator[Services]:
    try:
        for child in services.children:
            child.start()
        await_answer(services, f"{services.ui_url}/server_info", "webserver")
        await_answer(services, f"{services.api_url}/healthz", "api")
        yield services
    finally:
        stop(services)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / SERVICES_LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                f"the service of {home} is already running; stop it, or set another EXPORT_HOME"
            ) from error
        yield


@contextmanager
def socket_folder(home: Path) -> Iterator[Path]:
    """Where the code server listens, which asks nobody for a password: a folder that no other account can enter."""
    folder = home / "dagster"
    if len(os.fsencode(folder)) <= _SOCKET_FOLDER_BYTES:
        yield folder
        return
    with TemporaryDirectory(prefix="export-pipelines-") as short:
        yield Path(short)


def stop(services: Services) -> None:
    """Interrupt all, wait, then kill what is left, including run workers."""
    for child in reversed(services.children):
        child.signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    for child in reversed(services.children):
        if child.process is not None:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.1, deadline - time.monotonic()))
        child.signal(signal.SIGKILL)
        if child.process is not None:
            child.process.wait()


def describe(workplace: Workplace, code_socket: Path) -> Services:
    """All services as they would be started, on ports that are free now."""
    settings = workplace.settings
    logs = settings.home / "logs"
    make_folder(logs, 0o700)
    ui_port, api_port = free_port(settings.ui_port), free_port(settings.api_port)
    api_url = f"http://{HOST}:{api_port}"
    environment = {
        **{name: value for name, value in ENVIRONMENT.items() if name not in os.environ},
        **workplace.environment,
        "EXPORT_PUBLIC_URL": settings.public_url or api_url,
        "EXPORT_API_PORT": str(api_port),
        "EXPORT_UI_PORT": str(ui_port),
    }
    workspace = settings.home / "dagster" / "workspace.yaml"
    server = {"socket": str(code_socket), "location_name": "export_pipelines"}
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}), encoding="utf-8")
    commands = {
        "code": _code_server(settings, code_socket),
        "api": ["export_pipelines", "api", "--host", HOST, "--port", str(api_port)],
        "webserver": ["dagster_webserver", "-w", str(workspace), "-h", HOST, "-p", str(ui_port)],
        "daemon": ["export_pipelines.orchestration.daemon", "run", "-w", str(workspace)],
    }
    environments = {"api": _for_the_api(environment, settings)}
    children = tuple(
        Child(name, [sys.executable, "-m", *command], logs / f"{name}.log", environments.get(name, environment))
        for name, command in commands.items()
    )
    return Services(children=children, ui_url=f"http://{HOST}:{ui_port}", api_url=api_url, logs=logs)


def _code_server(settings: Settings, path: Path) -> list[str]:
    """On a socket: gRPC shares a TCP port with whoever takes the same one, and two services would mix."""
    if choose_run_launcher(settings.run_launcher).name == "warm":
        return ["export_pipelines.orchestration.code_server", "--socket", str(path)]
    return ["dagster", "api", "grpc", "-m", "export_pipelines.definitions", "-s", str(path)]


def _for_the_api(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The API knows its own login only: neither that of the service nor Dagster's storage."""
    withheld = {"EXPORT_CONTROL_URL": "", "DAGSTER_POSTGRES_URL": ""}
    return {**environment, **withheld, "EXPORT_API_URL": settings.require_api_url()}


def free_port(preferred: int) -> int:
    """The preferred port, or the next free one after it."""
    for port in range(preferred, preferred + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise Unavailable(f"no free port between {preferred} and {preferred + 199}; stop something or set another port")


def await_answer(services: Services, url: str, name: str) -> None:
    """Until one of them answers; `Unavailable` when one has ended or none does in time."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        for child in services.children:
            if child.ended():
                raise Unavailable(f"{child.name} ended at once; {child.log} says:\n{child.tail()}")
        try:
            with urlopen(url, timeout=2):  # noqa: S310 - our own loopback address
                return
        except (URLError, OSError):
            time.sleep(_POLL_SECONDS)
    raise Unavailable(f"{name} did not answer within {START_TIMEOUT_SECONDS} s; see {services.child(name).log}")
