"""One suite for every destination, each against a real counterpart: a mail server, a disk.

A new kind adds a `Scene` to `SCENES`: how it is set up, what its recipient has seen, how it breaks.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import DeliveryTarget
from export_pipelines.core.destinations import Carries, Delivery, DeliveryKind, DestinationSpec, Effect, PackageFile
from export_pipelines.core.errors import Cancelled, IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.notifying import deliveries_of
from export_pipelines.core.ports import Message, ObjectStore
from export_pipelines.destinations.registry import (
    all_destinations,
    find_destination,
    open_destinations,
)
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.orchestration.resources import export_resource
from export_pipelines.settings import Settings
from export_pipelines_tests.published import FILES
from export_pipelines_tests.servers.smtp import SmtpServer

SECRET = SecretStr("hunter2")
CATALOG = Catalog.model_validate(
    {
        "name": "shop",
        "tenant": {"table": "public.tenants"},
        "tables": {"pets": {"tenant": {"column": "tenant_id"}, "columns": {"tenant_id": {"type": "uuid"}}}},
    }
)
TENANT, REQUEST = "clinic/1", "0190b6c4-0000-7000-8000-000000000001"
MANIFEST_SHA256 = hashlib.sha256(FILES["manifest.json"]).hexdigest()


class Scene(ABC):
    """A kind of destination with what stands at its other end."""

    recipient: str
    elsewhere: str  # another recipient

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """An installation in which it is set up."""

    @abstractmethod
    def seen(self) -> list[dict[str, bytes]]:
        """What recipients have, one entry for each delivery that had an effect: names and contents."""

    @abstractmethod
    def break_down(self) -> None:
        """So that no delivery can succeed until `repair`."""

    @abstractmethod
    def repair(self) -> None: ...


class MailScene(Scene):
    recipient, elsewhere = "ann@example.com", "ben@example.com"

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._port = server.port

    @property
    def settings(self) -> Settings:
        return Settings(SMTP_HOST=self._server.host, SMTP_PORT=self._port, SMTP_SECURITY="none")

    def seen(self) -> list[dict[str, bytes]]:
        return [{mail.message["Message-ID"]: mail.message.get_content().encode()} for mail in self._server.received()]

    def break_down(self) -> None:
        self._port = 9  # discard; nothing listens

    def repair(self) -> None:
        self._port = self._server.port


class FolderScene(Scene):
    recipient, elsewhere = "nas", "archive"

    def __init__(self, folder: Path) -> None:
        self._roots = {name: folder / name for name in (self.recipient, self.elsewhere)}
        for root in self._roots.values():
            root.mkdir()

    @property
    def settings(self) -> Settings:
        return Settings(EXPORT_FOLDERS=",".join(f"{name}={root}" for name, root in self._roots.items()))

    def seen(self) -> list[dict[str, bytes]]:
        places = [place for root in self._roots.values() if root.exists() for place in sorted(root.glob("*/*"))]
        return [
            {str(file.relative_to(place)): file.read_bytes() for file in place.rglob("*") if file.is_file()}
            for place in places
        ]

    def break_down(self) -> None:
        for root in self._roots.values():
            root.rename(root.with_suffix(".unmounted"))

    def repair(self) -> None:
        for root in self._roots.values():
            root.with_suffix(".unmounted").rename(root)


SCENES: dict[str, Callable[[pytest.FixtureRequest, Path], Scene]] = {
    "email": lambda request, _folder: MailScene(request.getfixturevalue("smtp")()),
    "folder": lambda _request, folder: FolderScene(folder),
}
DELIVERING = sorted(name for name, spec in all_destinations().items() if spec.open is not None)


@pytest.fixture(params=DELIVERING)
def spec(request: pytest.FixtureRequest) -> DestinationSpec:
    return find_destination(request.param)


@pytest.fixture
def scene(spec: DestinationSpec, request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return SCENES[spec.name](request, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return LocalStore(tmp_path / "objects")


@pytest.fixture
def delivery(spec: DestinationSpec, scene: Scene, store: ObjectStore) -> Delivery:
    """Of a package with a folder in it, the manifest last."""
    files = {"data/pets.csv": FILES["pets.csv"], **{name: FILES[name] for name in ("README.md", "manifest.json")}}
    stored = tuple(_stored(path, content, store) for path, content in files.items())
    return Delivery(
        id="0190b6c4-0000-7000-8000-00000000000d",
        kind=DeliveryKind.PACKAGE,
        tenant_id=TENANT,
        request_id=REQUEST,
        recipient=scene.recipient,
        message=message(scene.recipient),
        files=stored if spec.carries is Carries.FILES else (),
        export_name="Pets & owners",
        manifest_sha256=MANIFEST_SHA256,
    )


def message(recipient: str) -> Message:
    return Message(recipient=recipient, subject="Pets", body="Here: https://x/d/t\n", message_id="d@exports")


def _stored(path: str, content: bytes, store: ObjectStore) -> PackageFile:
    key = f"exports/{path}"
    with store.writing(key) as sink:
        sink.write(content)
    return PackageFile(
        path=path,
        media_type="text/plain",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        open=lambda: store.reading(key),
    )


def hand_over(scene: Scene, spec: DestinationSpec, delivery: Delivery) -> Any:
    return open_destinations(scene.settings).open(spec.name).deliver(delivery)


# The registry -----------------------------------------------------------------------------------------------------


def test_every_destination_has_a_scene() -> None:
    assert sorted(SCENES) == DELIVERING


@pytest.mark.parametrize("name", all_destinations())
def test_the_example_is_an_entry_that_planning_takes(name: str) -> None:
    spec = find_destination(name)
    entry = DeliveryTarget.model_validate(dict(spec.example))
    planned = deliveries_of([entry], all_destinations(), (), CATALOG, sealed=False)
    assert len(planned) == (spec.open is not None)
    for delivery in planned:
        assert (delivery.method, delivery.recipient in json.dumps(spec.example)) == (name, True)
        assert delivery.recipient not in json.dumps(delivery.options)  # a row of the outbox names its own only


@pytest.mark.parametrize("name", all_destinations())
def test_every_field_is_described_and_unknown_ones_are_refused(name: str) -> None:
    target = find_destination(name).target
    assert [field for field, about in target.model_fields.items() if not about.description] == []
    with pytest.raises(ValidationError, match="Extra inputs"):
        target.model_validate({**find_destination(name).example, "surprise": 1})


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(RequestRejected, match=r"^method: 'fax' is not a way to deliver; choose from download, email, "):
        find_destination("fax")


def test_the_kinds_settings_reach_a_run_and_secrets_only_by_the_name_of_their_variable(
    scene: Scene, spec: DestinationSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    secret = export_resource(scene.settings.model_copy(update={"smtp_password": SECRET}))
    assert "hunter2" not in repr(secret)
    assert secret.smtp_password.env_var_name == "SMTP_PASSWORD"  # type: ignore[attr-defined]
    settings = export_resource(scene.settings).as_settings()
    assert open_destinations(settings).open(spec.name) == open_destinations(scene.settings).open(spec.name)


def test_what_is_not_set_up_says_which_setting_is_missing(spec: DestinationSpec) -> None:
    with pytest.raises(Unavailable, match=r"SMTP_HOST|EXPORT_FOLDERS"):
        open_destinations(Settings()).open(spec.name)
    assert not open_destinations(Settings()).configured(spec.name)


# Delivering -------------------------------------------------------------------------------------------------------


def test_a_delivery_arrives_and_its_receipt_says_where(scene: Scene, spec: DestinationSpec, delivery: Delivery) -> None:
    receipt = hand_over(scene, spec, delivery)
    assert receipt.remote_id
    assert delivery.recipient in receipt.location
    (arrived,) = scene.seen()
    if spec.carries is Carries.FILES:
        assert arrived.items() >= {"data/pets.csv": FILES["pets.csv"], "manifest.json": FILES["manifest.json"]}.items()
        assert (receipt.files, receipt.size_bytes, receipt.confirmed) == (
            len(delivery.files), sum(file.size_bytes for file in delivery.files), "read-back",
        )  # fmt: skip
    else:
        assert any(b"https://x/d/t" in content for content in arrived.values())


def test_a_repeat_has_one_effect_or_can_be_told_by_its_id(
    scene: Scene, spec: DestinationSpec, delivery: Delivery
) -> None:
    first, second = hand_over(scene, spec, delivery), hand_over(scene, spec, delivery)
    assert first.remote_id == second.remote_id
    seen = scene.seen()
    if spec.effect is Effect.ONCE:
        assert len(seen) == 1
    else:
        assert len({tuple(each) for each in seen}) == 1


def test_a_probe_tells_what_has_happened(scene: Scene, spec: DestinationSpec, delivery: Delivery) -> None:
    destination = open_destinations(scene.settings).open(spec.name)
    assert destination.probe(delivery) is None
    receipt = destination.deliver(delivery)
    assert destination.probe(delivery) == (receipt if spec.effect is Effect.ONCE else None)


def test_recipients_are_apart(scene: Scene, spec: DestinationSpec, delivery: Delivery) -> None:
    other = replace(delivery, id="other", recipient=scene.elsewhere, message=message(scene.elsewhere))
    assert hand_over(scene, spec, delivery).location != hand_over(scene, spec, other).location
    assert len(scene.seen()) == 2


def test_what_does_not_answer_is_tried_again_and_leaves_nothing(
    scene: Scene, spec: DestinationSpec, delivery: Delivery
) -> None:
    scene.break_down()
    with pytest.raises(Unavailable) as reported:
        hand_over(scene, spec, delivery)
    assert str(Path(os.sep).joinpath("tmp")) not in str(reported.value)  # no path of this machine
    scene.repair()
    assert scene.seen() == []
    hand_over(scene, spec, delivery)
    assert len(scene.seen()) == 1


def test_a_self_test_goes_step_by_step_and_leaves_no_trace(scene: Scene, spec: DestinationSpec) -> None:
    steps = list(open_destinations(scene.settings).open(spec.name).self_test())
    assert steps
    assert [step.problem for step in steps if step.problem] == []
    assert scene.seen() == []
    scene.break_down()
    steps = list(open_destinations(scene.settings).open(spec.name).self_test())
    assert steps[-1].problem


CARRYING_FILES = pytest.mark.parametrize(
    "spec", [name for name in DELIVERING if find_destination(name).carries is Carries.FILES], indirect=True
)


@CARRYING_FILES
def test_a_sender_that_was_taken_for_dead_stops(scene: Scene, spec: DestinationSpec, delivery: Delivery) -> None:
    def lost() -> None:
        raise Cancelled("taken over by another sender")

    with pytest.raises(Cancelled):
        hand_over(scene, spec, replace(delivery, still_ours=lost))
    assert scene.seen() == []


@CARRYING_FILES
def test_files_that_are_not_what_was_published_do_not_arrive(
    scene: Scene, spec: DestinationSpec, delivery: Delivery
) -> None:
    spoiled = replace(delivery.files[0], sha256="0" * 64)
    with pytest.raises(IntegrityViolation, match=r"data/pets\.csv is not what was published"):
        hand_over(scene, spec, replace(delivery, files=(spoiled, *delivery.files[1:])))
    assert scene.seen() == []
