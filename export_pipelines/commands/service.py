"""``up``, ``demo`` and ``migrate``: the whole service in one foreground process."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from export_pipelines.commands import output
from export_pipelines.commands.control import record
from export_pipelines.commands.exports import copy_package
from export_pipelines.core.errors import IntegrityViolation, Unavailable
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.ports import ObjectStore
from export_pipelines.core.run_launchers import choose_run_launcher
from export_pipelines.core.status import TERMINAL, RequestStatus
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.embedded.services import SERVICES_LOCK, Services, running_services
from export_pipelines.embedded.workplace import SampleSize, Workplace, prepared
from export_pipelines.formats.registry import find_format
from export_pipelines.logs import configure_server_logs
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.services import open_services
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.samples.loader import FIRST_TENANT, sample_catalog_path, sample_demo
from export_pipelines.settings import load_settings
from export_pipelines.sources.engines import choose_engine
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.migrate import migrate as migrate_database
from export_pipelines.stores.requests import ExportRequest, RequestStore
from export_pipelines.stores.secrets import KEY_FILE

DEMO_TIMEOUT_SECONDS = 180
HOME_FOLDERS = ("dagster", "objects", "scratch", "logs", "postgres")
_WATCH_SECONDS = 1.0

Sample = Annotated[
    str | None,
    typer.Option(help="Sample of a new embedded database, see `samples list`; default: clinic."),
]
Tenants = Annotated[int, typer.Option(min=1, max=10_000, help="Tenants of a new sample.")]
Rows = Annotated[int, typer.Option(min=1, max=50_000_000, help="Rows of a new sample, over all its tables.")]


def up(sample: Sample = None, tenants: Tenants = 3, rows: Rows = 20_000) -> None:
    """Start everything and stay in the foreground: database (embedded unless URLs are set), Dagster, the API."""
    with output.reported():
        _stop_on_terminate()
        settings = load_settings()
        choose_engine(settings.decoder)  # refused here rather than by every run
        with prepared(settings, sample=_size(sample, tenants, rows)) as workplace:
            output.say("starting …")
            with running_services(workplace) as services:
                _addresses(workplace, services)
                _watch(workplace, services)


def demo(
    exit_: Annotated[bool | None, typer.Option("--exit/--stay", help="Default: stay on a terminal, else exit.")] = None,
    sample: Sample = None,
    tenants: Tenants = 3,
    rows: Rows = 20_000,
) -> None:
    """`up`, then one export of the sample's first tenant through request table, sensor and daemon, verified."""
    stay = sys.stdout.isatty() if exit_ is None else not exit_
    with output.reported():
        _stop_on_terminate()
        started = time.monotonic()
        settings = load_settings()
        choose_engine(settings.decoder)
        with prepared(settings, sample=_size(sample, tenants, rows)) as workplace:
            order = sample_demo(open_catalog(workplace.settings).name)
            output.say(f"database ready after {time.monotonic() - started:.1f} s; starting Dagster …")
            with running_services(workplace) as services:
                _addresses(workplace, services)
                with open_services(workplace.settings) as opened:
                    _prove(_ordered(order, opened.requests, services), opened.store)
                output.say(f"done in {time.monotonic() - started:.1f} s")
                if stay:
                    output.say("Ctrl-C stops everything.")
                    _watch(workplace, services)


def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the home folder with the embedded databases, objects and logs. Databases of your own are not touched."""
    with output.reported():
        home = load_settings().home.resolve()
        if not (home / "dagster").is_dir() and not (home / "postgres").is_dir():
            output.say(f"{home} holds nothing of this service")
            return
        if not yes:
            typer.confirm(f"Delete {home} and every embedded database in it?", abort=True)
        EmbeddedPostgres(home).delete_data()
        for folder in HOME_FOLDERS:
            shutil.rmtree(home / folder, ignore_errors=True)
        for file in (SERVICES_LOCK, KEY_FILE):
            (home / file).unlink(missing_ok=True)
        with suppress(OSError):  # something else lies there as well
            home.rmdir()
        output.say(f"{home} is reset")


def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: EXPORT_API_PORT.")] = None,
) -> None:
    """Serve the REST API and the pages behind links, and nothing else; `up` does so, too."""
    with output.reported():
        settings = load_settings()
        settings.require_api_url()
        # Late: no other command needs a web server.
        from export_pipelines.api.server import serve

        configure_server_logs()
        serve(settings, host=host, port=port or settings.api_port)


def migrate() -> None:
    """Bring the control database to this version's schema."""
    with output.reported():
        settings = load_settings()
        if settings.control_url is None:
            with prepared(settings):
                output.say("the embedded control database is up to date")
            return
        before, after = migrate_database(settings.require_control_url())
        if before != after:
            with closing(ControlDatabase(settings.require_control_url())) as control:
                record(control, "schema.migrate", target=("schema", after), detail={"before": before})
        output.say(f"control database: {before or 'empty'} → {after}")


def _size(name: str | None, tenants: int, rows: int) -> SampleSize:
    """An unknown name is refused before anything is made."""
    if name is not None:
        sample_catalog_path(name)
    return SampleSize(name=name, tenants=tenants, rows=rows)


def _ordered(order: dict[str, Any], requests: RequestStore, services: Services) -> ExportRequest:
    """Insert a row as a host application would, then wait for the daemon to do the rest."""
    request_id = requests.insert(tenant_id=FIRST_TENANT, config=order, requested_by="demo")
    output.say(f"request {request_id} is in the request table; the sensor takes it from here")
    deadline, last = time.monotonic() + DEMO_TIMEOUT_SECONDS, None
    while time.monotonic() < deadline:
        request = requests.get(request_id)
        if request.status != last:
            output.say(f"  {request.status}")
            last = request.status
        if request.status in TERMINAL:
            break
        _revive(services)
        time.sleep(0.25)
    else:
        raise Unavailable(f"the export did not finish in {DEMO_TIMEOUT_SECONDS} s; see {services.logs}")
    if request.status is not RequestStatus.COMPLETED:
        raise IntegrityViolation(f"the export ended {request.status}: {request.error_message}")
    while services.run_is_open(str(request.run_id)) and time.monotonic() < deadline:
        time.sleep(0.25)  # deliveries follow the export; a run must not be cut off by our own stop
    return request


def _prove(request: ExportRequest, store: ObjectStore) -> None:
    """Fetch the published package and verify it like a stranger would, offline."""
    prefix = str(request.package_prefix)
    with tempfile.TemporaryDirectory(prefix="export-pipelines-") as folder:
        copy_package(store, prefix, Path(folder))
        found = verify_package(Path(folder) / MANIFEST, find_format)
    if not found.valid:
        raise IntegrityViolation("; ".join(found.problems))
    output.say(f"verified: {found.files} files, {found.rows:,} rows, every byte and every count")
    for key, size_bytes in store.list(prefix):
        output.out.print(f"  {key.removeprefix(f'{prefix}/'):34} {output.size(size_bytes):>10}", markup=False)
    output.out.print(f"package: {_shown(store.url(prefix))}", markup=False)


def _shown(url: str) -> str:
    """A folder as its path, everything else as its address."""
    return unquote(urlsplit(url).path) if url.startswith("file:") else url


def _addresses(workplace: Workplace, services: Services) -> None:
    settings = workplace.settings
    output.out.print(f"Dagster UI      {services.ui_url}", markup=False)
    output.out.print(f"API             {services.api_url}/api/docs", markup=False)
    output.out.print(
        f"request table   export_control.export_requests in {_without_password(settings.require_control_url())}",
        markup=False,
    )
    output.out.print(f"objects         {_shown(without_secrets(settings.objects_url))}", markup=False)
    output.out.print(f"home, logs      {settings.home.resolve()}", markup=False)
    output.out.print(f"rows read by    {choose_engine(settings.decoder)}", markup=False)
    output.out.print(f"runs start as   {choose_run_launcher(settings.run_launcher)}", markup=False)


def without_secrets(url: str) -> str:
    """The address of a store without what may have been written into it to log in: before an ``@``, behind a ``?``."""
    scheme, named, rest = url.partition("://")
    if not named:
        return url
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2].partition('?')[0]}{slash}{path.partition('?')[0]}"


def _without_password(url: str) -> str:
    head, _, tail = url.rpartition("@")
    return f"{head.rsplit(':', 1)[0]}@{tail}" if head else url


def _watch(workplace: Workplace, services: Services) -> None:
    """Keep database and services alive until somebody stops us, which is how this is meant to end."""
    try:
        while True:
            workplace.keep_database()
            _revive(services)
            services.trim_logs()
            time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        output.say("stopping …")


def _revive(services: Services) -> None:
    for name in services.revive():
        output.err.print(f"{name} ended and was started again; see {services.child(name).log}", markup=False)


def _stop_on_terminate() -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)  # a parent shell may have it ignored
