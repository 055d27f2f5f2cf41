"""Packages in a folder of the operator: whole or not there, whatever is killed, in the way or full."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from export_pipelines.core.configuration import Configuration
from export_pipelines.core.destinations import Delivery, DeliveryKind, PackageFile
from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.destinations.folder import SUCCESS, FolderDestination
from export_pipelines.destinations.registry import open_destinations
from export_pipelines.pipeline.planning.orders import Order, plan_order
from export_pipelines.settings import Settings, load_settings
from export_pipelines.settings.values import NamedFolders
from export_pipelines_tests.workshop import TENANTS, Workshop

FILES = {"data/pets.csv": b"id\n" * 400_000, "README.md": b"# Pets\n", "manifest.json": b"{}\n"}
REQUEST = "0190b6c4-0000-7000-8000-000000000001"


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as source:
        yield source


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    package = tmp_path / "package"
    files = []
    for path, content in FILES.items():
        file = package / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        files.append(
            PackageFile(
                path=path,
                media_type="text/plain",
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                open=partial(_reading, file),
            )
        )
    return Delivery(
        id="d",
        kind=DeliveryKind.PACKAGE,
        tenant_id="clinic-1",
        request_id=REQUEST,
        recipient="nas",
        files=tuple(files),
        export_name="Pets & owners",
        manifest_sha256=files[-1].sha256,
    )


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


@pytest.fixture
def destination(nas: Path) -> FolderDestination:
    return FolderDestination({"nas": nas})


def listing(folder: Path) -> list[str]:
    """Everything below, hidden or not."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


PLACE = f"clinic-1/pets-owners_{REQUEST}"
WHOLE = sorted(
    ["clinic-1", PLACE, f"{PLACE}/data", f"{PLACE}/{SUCCESS}", *(f"{PLACE}/{path}" for path in FILES)]
)  # fmt: skip


def test_nothing_can_be_seen_until_all_of_it_is_there(
    destination: FolderDestination, delivery: Delivery, nas: Path
) -> None:
    seen: list[list[Path]] = []
    destination.deliver(replace(delivery, still_ours=lambda: seen.append(list(nas.glob("*/[!.]*")))))
    assert len(seen) > 2 * len(FILES)
    assert not any(seen)
    assert listing(nas) == WHOLE


def test_the_last_file_checks_the_manifest(destination: FolderDestination, delivery: Delivery, nas: Path) -> None:
    destination.deliver(delivery)
    done = subprocess.run(["sha256sum", "-c", SUCCESS], cwd=nas / PLACE, capture_output=True, text=True, check=True)
    assert done.stdout == "manifest.json: OK\n"


@pytest.mark.parametrize("step", range(9))
def test_a_sender_killed_at_any_step_leaves_nothing_half_and_the_next_one_delivers_once(
    destination: FolderDestination, delivery: Delivery, nas: Path, step: int
) -> None:
    child = os.fork()
    if child == 0:
        calls = iter(range(step))
        destination.deliver(replace(delivery, still_ours=lambda: next(calls, None) is None and os._exit(9)))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9, "the step is beyond the last one"
    assert list(nas.glob("*/[!.]*")) == []
    assert destination.probe(delivery) is None
    destination.deliver(delivery)
    assert listing(nas) == WHOLE


def test_two_senders_at_once_deliver_once(destination: FolderDestination, delivery: Delivery, nas: Path) -> None:
    """The second takes over while the first, taken for dead, is only slow."""
    overtaken: list[object] = []

    def slow() -> None:
        if not overtaken:
            overtaken.append(destination.deliver(delivery))

    with pytest.raises(Unavailable, match="cannot be used"):
        destination.deliver(replace(delivery, still_ours=slow))
    assert listing(nas) == WHOLE


def test_a_folder_of_somebody_else_is_left_as_it_is(
    destination: FolderDestination, delivery: Delivery, nas: Path
) -> None:
    (nas / PLACE).mkdir(parents=True)
    (nas / PLACE / SUCCESS).write_text("0  manifest.json\n", encoding="utf-8")
    with pytest.raises(RequestRejected, match=rf"^nas/{PLACE} is there already and is not this export"):
        destination.deliver(delivery)
    assert listing(nas) == sorted(["clinic-1", PLACE, f"{PLACE}/{SUCCESS}"])


@pytest.mark.parametrize("tenant", ["..", "../other", "/etc", ".", "", "a/b", "a\0b", "x" * 200])
def test_no_tenant_gets_out_of_its_folder(
    destination: FolderDestination, delivery: Delivery, nas: Path, tmp_path: Path, tenant: str
) -> None:
    before = [path for path in listing(tmp_path) if not path.startswith("nas/")]
    destination.deliver(replace(delivery, tenant_id=tenant))
    assert [path for path in listing(tmp_path) if not path.startswith("nas/")] == before
    assert len(list(nas.iterdir())) == 1


def test_a_tenants_folder_that_leads_elsewhere_is_not_written_to(
    destination: FolderDestination, delivery: Delivery, nas: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (nas / "clinic-1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestRejected, match="not a folder of its own"):
        destination.deliver(delivery)
    assert listing(tmp_path / "elsewhere") == []


def test_a_drive_that_takes_no_more_keeps_nothing_half(
    destination: FolderDestination, delivery: Delivery, nas: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Unavailable, match=r"the folder 'nas' cannot be used: File too large"):
            destination.deliver(delivery)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert listing(nas) == ["clinic-1"]


def test_a_drive_that_is_not_mounted_is_not_replaced_by_a_folder_here(
    destination: FolderDestination, delivery: Delivery, nas: Path
) -> None:
    nas.rmdir()
    with pytest.raises(Unavailable, match="is its drive mounted"):
        destination.deliver(delivery)
    assert not nas.exists()


@pytest.mark.parametrize(
    "text", ["nas", "nas=relative/path", "=/mnt", "a b=/mnt", "nas=/a,nas=/b", "../x=/mnt", "nas=/a;b=/c=d,x"]
)
def test_folders_that_are_not_pairs_are_refused_when_the_service_starts(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("EXPORT_FOLDERS", text)
    with pytest.raises(RequestRejected, match="EXPORT_FOLDERS"):
        load_settings()


# Whole exports ----------------------------------------------------------------------------------------------------

CONFIG = {"tables": ["pets"], "format": "csv", "name": "Pets", "delivery": [{"method": "folder", "folder": "nas"}]}


@pytest.fixture
def with_nas(workshop: Workshop, nas: Path) -> Workshop:
    settings = workshop.settings.model_copy(update={"folders": NamedFolders(nas=nas)})
    services = workshop.services.having(settings=settings, destinations=open_destinations(settings))
    return replace(workshop, settings=settings, services=services)


def test_an_export_is_delivered_with_every_file_of_its_package(with_nas: Workshop, nas: Path) -> None:
    request = with_nas.export(CONFIG)
    assert request.error_message is None
    [place] = nas.glob("*/*")
    assert place.parent.name == TENANTS[0]
    package = with_nas.package(request)
    delivered = contents(place)
    assert delivered.pop(SUCCESS) == f"{request.manifest_sha256}  manifest.json\n".encode()
    assert delivered == contents(package)
    (row,) = with_nas.services.deliveries.of_request(request.id)
    assert (row["kind"], row["method"], row["recipient"], row["status"]) == ("package", "folder", "nas", "delivered")
    assert row["receipt"]["confirmed"] == "read-back"
    assert str(nas) not in str(row["receipt"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        (
            "nas=/mnt/nas,archive=/srv",
            "delivery.folder: 'nsa' is not a folder of this service; choose from archive, nas",
        ),
        ("", "delivery.method: 'folder' is not set up in this service; ask its operators, or deliver another way"),
    ],
)
def test_an_order_for_a_folder_that_is_not_there_is_refused_at_once(
    workshop: Workshop, folders: str, problem: str
) -> None:
    config = {**CONFIG, "delivery": [{"method": "folder", "folder": "nsa"}]}
    here = open_destinations(Settings(EXPORT_FOLDERS=folders) if folders else Settings())
    order = Order(configuration=Configuration.of(config), scope=workshop.scope())
    with pytest.raises(RequestRejected) as refused:
        plan_order(order, workshop.catalog, destinations=here)
    assert str(refused.value) == problem


def test_one_inserted_by_sql_is_refused_before_anything_is_read(with_nas: Workshop) -> None:
    request = with_nas.export({**CONFIG, "delivery": [{"method": "folder", "folder": "nsa"}]})
    assert request.error_message == "delivery.folder: 'nsa' is not a folder of this service; choose from nas"


def test_dagsters_run_knows_the_folders_of_the_settings(with_nas: Workshop, nas: Path) -> None:
    request = with_nas.export_by_job(CONFIG)
    assert request.error_message is None
    assert len(list(nas.glob("*/*"))) == 1
