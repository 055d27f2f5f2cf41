"""The resource of Dagster says what the settings say, all of it that runs read, and nothing of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, build_resources
from pydantic import Field, SecretStr

from export_pipelines.core.errors import RequestRejected
from export_pipelines.orchestration import resources
from export_pipelines.orchestration.resources import export_resource
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.settings import Settings
from export_pipelines.settings.values import Days, SettingsGroup, variable
from export_pipelines.stores.control import ControlDatabase

READ_BY_RUNS = {
    name: field for group in Settings.groups() if group.read_by_runs for name, field in group.model_fields.items()
}
# Another value than the default for each setting that runs read.
VALUES: dict[str, Any] = {
    "EXPORT_SOURCE_URL": "postgresql://login@127.0.0.1/app",
    "EXPORT_CONTROL_URL": "postgresql://service@127.0.0.1/control",
    "EXPORT_CATALOG": "/srv/catalog.yaml",
    "EXPORT_DECODER": "adbc",
    "EXPORT_HOME": "/srv/home",
    "EXPORT_STORAGE_URL": "s3://bucket/prefix",
    "S3_ENDPOINT": "http://127.0.0.1:9000",
    "S3_REGION": "eu-central-1",
    "S3_ACCESS_KEY_ID": "id",
    "S3_SECRET_ACCESS_KEY": "secret-storage",
    "S3_SSE": "aws:kms",
    "S3_SSE_KMS_KEY_ID": "key-1",
    "EXPORT_SECRET_KEY": "c2VjcmV0",
    "SMTP_HOST": "mail.example.com",
    "SMTP_PORT": "465",
    "SMTP_USER": "exports",
    "SMTP_PASSWORD": "secret-mail",
    "SMTP_SECURITY": "tls",
    "SMTP_CA_FILE": "/srv/ca.pem",
    "FROM_EMAIL": "exports@example.com",
    "FROM_NAME": "Exports",
    "EXPORT_MAX_ATTACHMENT": "5MB",
    "EXPORT_PUBLIC_URL": "https://exports.example.com",
    "EXPORT_API_PORT": "3071",
    "EXPORT_LINK_TTL": "90",
    "EXPORT_SIGNED_URL_TTL": "60",
    "EXPORT_RETENTION_DAYS": "3",
    "EXPORT_KEEP_CANONICAL": "false",
    "EXPORT_CLEANUP_HOUR": "0",
    "EXPORT_SWEEP_SECONDS": "7200",
    "EXPORT_HISTORY_DAYS": "2",
    "EXPORT_LAKE_SNAPSHOTS": "4",
    "EXPORT_LAKE_DAYS": "5",
    "EXPORT_RUN_LAUNCHER": "warm",
    "EXPORT_DAGSTER_URL": "http://127.0.0.1:3999",
    "EXPORT_UI_PORT": "3001",
    "EXPORT_MAX_FILE_SIZE": "2GB",
    "EXPORT_HEARTBEAT_SECONDS": "2.5",
    "EXPORT_STALE_SECONDS": "70",
    "EXPORT_OUTAGE_DEADLINE_SECONDS": "80",
    "EXPORT_SCHEDULE_MIN_SECONDS": "61",
    "EXPORT_SCHEDULE_LATE_SECONDS": "62",
}


@pytest.fixture(params=["unset", "set"])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """None of them set, and all."""
    names = {field.validation_alias.choices[0] for field in READ_BY_RUNS.values()}  # type: ignore[union-attr]
    for name in names:
        if request.param == "set" and name in VALUES:
            monkeypatch.setenv(name, VALUES[name])
        else:
            monkeypatch.delenv(name, raising=False)
    return Settings()


def settled(settings: Settings) -> Settings:
    """What a process in the same environment has made of the resource's configuration."""
    with build_resources({"export": export_resource(settings)}, DagsterInstance.ephemeral()) as opened:
        found: Settings = opened.export.services.settings
        return found


def test_every_setting_arrives_as_it_is(settings: Settings) -> None:
    found = settled(settings)
    expected = settings.model_copy(update={"home": settings.home.resolve()})
    assert {name: getattr(found, name) for name in READ_BY_RUNS} == {
        name: getattr(expected, name) for name in READ_BY_RUNS
    }


def test_the_resource_has_no_field_but_the_settings_of_runs() -> None:
    assert set(type(export_resource(Settings())).model_fields) == set(READ_BY_RUNS)


def test_the_configuration_names_each_variable_with_its_meaning() -> None:
    shown = type(export_resource(Settings())).model_fields
    for name, field in READ_BY_RUNS.items():
        assert shown[name].description == f"{field.validation_alias.choices[0]}: {field.description}"  # type: ignore[union-attr]


def test_runs_are_not_told_what_only_the_api_and_commands_use() -> None:
    untold = set(Settings.model_fields) - set(READ_BY_RUNS)
    assert {"api_url", "jwt_secret", "password"} <= untold
    assert untold & set(type(export_resource(Settings())).model_fields) == set()


def test_services_hold_the_settings_and_no_copy_of_one() -> None:
    assert [name for name in Settings.model_fields if hasattr(ExportServices, name)] == ["catalog"]


def test_a_value_of_a_run_that_cannot_be_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPORT_SOURCE_URL", "mysql://login:s3cret@127.0.0.1/app")
    resource = export_resource(Settings(EXPORT_SOURCE_URL="postgresql://login@127.0.0.1/app"))
    with (
        build_resources({"export": resource}, DagsterInstance.ephemeral()) as opened,
        pytest.raises(RequestRejected, match=r"^EXPORT_SOURCE_URL: must be a URL") as refused,
    ):
        _ = opened.export.services
    assert "s3cret" not in f"{refused.value} {refused.value.__cause__}"


def test_a_run_closes_what_it_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[ControlDatabase] = []

    def closing(control: ControlDatabase) -> None:
        closed.append(control)

    monkeypatch.setattr(ControlDatabase, "close", closing)
    monkeypatch.setenv("EXPORT_CONTROL_URL", "postgresql://service@127.0.0.1:9/control")
    resource = export_resource(Settings())
    with build_resources({"export": resource}, DagsterInstance.ephemeral()) as opened:
        control = opened.export.services.control
        assert closed == []
    assert closed == [control]


def test_a_new_setting_is_one_field_of_its_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is in Dagster's configuration, with its meaning, and in the settings of what is opened."""

    class ToySettings(SettingsGroup):
        """Toys"""

        toy_days: Days = Field(default=3, ge=1, validation_alias=variable("EXPORT_TOY_DAYS"), description="Of a toy.")
        toy_box: Path | None = Field(default=None, validation_alias=variable("EXPORT_TOY_BOX"), description="Its box.")
        toy_key: SecretStr | None = Field(default=None, validation_alias=variable("EXPORT_TOY_KEY"), description="Key.")

    class WithToys(Settings, ToySettings):
        @classmethod
        def groups(cls) -> tuple[type[SettingsGroup], ...]:
            return (*Settings.groups(), ToySettings)

    monkeypatch.setenv("EXPORT_TOY_DAYS", "7")
    monkeypatch.setenv("EXPORT_TOY_BOX", str(tmp_path))
    monkeypatch.setenv("EXPORT_TOY_KEY", "s3cret")
    monkeypatch.setattr(resources, "Settings", WithToys)
    monkeypatch.setattr("export_pipelines.settings.loading.Settings", WithToys)
    monkeypatch.setattr(resources, "_Configured", resources._configured_class())
    resource = export_resource(WithToys())
    assert type(resource).model_fields["toy_days"].description == "EXPORT_TOY_DAYS: Of a toy."
    assert "s3cret" not in str(resource)
    found: Any = settled(WithToys())
    assert (found.toy_days, found.toy_box, found.toy_key) == (7, tmp_path, SecretStr("s3cret"))
