"""Encrypted exports, opened by the programs of strangers; and the password, which is nowhere afterwards."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyrage
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from export_pipelines.archives.age_reading import identities_in
from export_pipelines.cli import app
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.status import RequestStatus
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging import archive_encryption as sealing
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.stores.passwords import SEALED
from export_pipelines.stores.requests import ExportRequest
from export_pipelines_tests.workshop import FinishedExports, Workshop

PASSWORD = "Tr0ub4dor & 3 staples"
KEYS = Keys(password=SecretStr(PASSWORD))
CONFIG: dict[str, Any] = {"name": "Pets of ours", "tables": ["pets", "invoices"], "format": "csv"}
AES: dict[str, Any] = {"method": "AES256", "password": PASSWORD}


def export(
    finished: FinishedExports, folder: Path, encryption: dict[str, Any], **config: Any
) -> tuple[ExportRequest, Path]:
    """A completed request and its archive, in a folder of the test's own."""
    order = {**CONFIG, "encryption": encryption, **config}
    archive, manifest = sorted(finished.package(folder, order).iterdir())
    assert manifest.name == "manifest.json"
    return finished.request(order), archive


def seven_zip(command: str, archive: Path, password: str, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ["7z", command, f"-p{password}", *more, str(archive)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def require_whole(folder: Path) -> None:
    """A package that was unpacked by somebody else's program passes the checks of others."""
    (top,) = folder.iterdir()
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=top, check=True, capture_output=True)
    assert verify_package(top, find_format).problems == []


def test_seven_zip_opens_a_package_with_its_password_and_sees_no_names_without_it(
    finished: FinishedExports, tmp_path: Path
) -> None:
    _, archive = export(finished, tmp_path, AES)
    listed = seven_zip("l", archive, "").stdout
    assert sealing.INNER_NAME in listed
    assert not any(name in listed for name in ("pets", "invoices", "README", "SHA256SUMS"))
    assert seven_zip("t", archive, PASSWORD).returncode == 0
    assert seven_zip("t", archive, "another password").returncode != 0
    assert seven_zip("x", archive, PASSWORD, f"-o{tmp_path / 'outer'}").returncode == 0
    inner = tmp_path / "outer" / sealing.INNER_NAME
    assert seven_zip("x", inner, "", f"-o{tmp_path / 'inner'}").returncode == 0
    require_whole(tmp_path / "inner")


def test_members_can_be_encrypted_each_so_that_one_unpacking_is_enough(
    finished: FinishedExports, tmp_path: Path
) -> None:
    _, archive = export(finished, tmp_path, {**AES, "hide_names": False}, compression="gzip")
    with zipfile.ZipFile(archive) as found:
        assert "pets-of-ours/data/pets.csv.gz" in found.namelist()
        assert {entry.flag_bits & 1 for entry in found.infolist()} == {1}
        assert {entry.CRC for entry in found.infolist()} == {0}  # AE-2: a CRC would tell what is inside
    assert seven_zip("x", archive, PASSWORD, f"-o{tmp_path / 'out'}").returncode == 0
    require_whole(tmp_path / "out")
    assert verify_package(archive, find_format, keys=KEYS).valid


def test_age_opens_a_package_with_any_of_its_private_keys(finished: FinishedExports, tmp_path: Path) -> None:
    subprocess.run(["age-keygen", "-o", str(tmp_path / "age.key")], check=True, capture_output=True)
    ssh_keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "ssh.key")]
    subprocess.run(ssh_keygen, check=True, capture_output=True)
    public = (tmp_path / "age.key").read_text().split("public key: ")[1].split()[0]
    recipients = [public, (tmp_path / "ssh.key.pub").read_text().strip()]
    _, archive = export(finished, tmp_path, {"method": "age", "recipients": recipients})
    for key in ("age.key", "ssh.key"):
        plain = tmp_path / f"{key}.zip"
        subprocess.run(["age", "-d", "-i", str(tmp_path / key), "-o", str(plain), str(archive)], check=True)
        assert seven_zip("x", plain, "", f"-o{tmp_path / f'{key}.out'}").returncode == 0
        require_whole(tmp_path / f"{key}.out")
        identities = tuple(identities_in((tmp_path / key).read_text(), key))
        assert verify_package(archive.parent, find_format, keys=Keys(identities=identities)).problems == []


def test_age_takes_a_passphrase_as_well(finished: FinishedExports, tmp_path: Path) -> None:
    _, archive = export(finished, tmp_path, {"method": "age", "password": PASSWORD})
    assert pyrage.passphrase.decrypt(archive.read_bytes(), PASSWORD).startswith(b"PK\x03\x04")
    assert verify_package(archive, find_format, keys=KEYS).problems == []


@pytest.mark.parametrize("method", ["AES256", "age"])
def test_what_lies_beside_an_encrypted_archive_tells_nothing_of_its_content(
    finished: FinishedExports, tmp_path: Path, method: str
) -> None:
    request, archive = export(finished, tmp_path, {"method": method, "password": PASSWORD})
    public = json.loads((archive.parent / "manifest.json").read_text())
    assert public.keys() == {"manifest_version", "export", "sealed", "signature"}
    assert public["export"] == {"id": request.id}
    assert public["sealed"].keys() == {"path", "method", "size_bytes", "sha256"}
    said = (archive.parent / "manifest.json").read_text() + archive.name
    assert not any(word in said for word in ("pets", "invoices", "rows"))


def command(*arguments: object, **environment: str) -> Any:
    return CliRunner(env=environment).invoke(app, [str(argument) for argument in arguments])


def test_verify_takes_its_password_from_a_file_or_the_environment(finished: FinishedExports, tmp_path: Path) -> None:
    _, archive = export(finished, tmp_path, AES)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "wrong").write_text("not the password\n")
    for package in (archive, archive.parent, archive.parent / "manifest.json"):
        assert command("verify", package, "--password-file", tmp_path / "password").exit_code == 0
        assert command("verify", package, EXPORT_PASSWORD=PASSWORD).exit_code == 0
        for refused in (command("verify", package), command("verify", package, "--password-file", tmp_path / "wrong")):
            assert refused.exit_code == 2, refused.output


@pytest.mark.parametrize("method", ["AES256", "age"])
@pytest.mark.parametrize("place", [0.5, 0.98])
def test_a_changed_byte_in_an_encrypted_archive_is_found(
    finished: FinishedExports, tmp_path: Path, method: str, place: float
) -> None:
    _, archive = export(finished, tmp_path, {"method": method, "password": PASSWORD})
    changed = bytearray(archive.read_bytes())
    changed[int(len(changed) * place) - 200] ^= 1
    alone = tmp_path / archive.name
    alone.write_bytes(changed)
    with pytest.raises(IntegrityViolation):
        verify_package(alone, find_format, keys=KEYS)
    archive.write_bytes(changed)
    assert verify_package(archive.parent, find_format, keys=KEYS).problems == [
        f"{archive.name} is not what the manifest says"
    ]


def test_an_archive_for_other_keys_is_refused_and_not_called_damaged(finished: FinishedExports, tmp_path: Path) -> None:
    owner, stranger = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    _, archive = export(finished, tmp_path, {"method": "age", "recipients": [str(owner.to_public())]})
    assert verify_package(archive, find_format, keys=Keys(identities=(owner,))).valid
    for keys in (Keys(identities=(stranger,)), Keys(), KEYS):
        with pytest.raises(RequestRejected, match="identity"):
            verify_package(archive, find_format, keys=keys)


def test_an_archive_that_does_not_read_back_is_never_published(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export_pipelines.archives.zip_encryption import WinZipAes

    def careless(cipher: WinZipAes, data: bytes) -> bytes:
        return data

    monkeypatch.setattr(WinZipAes, "_xor", careless)
    request = workshop.export({**CONFIG, "encryption": AES})
    assert (request.status, request.error_type) == (RequestStatus.FAILED, "integrity_violation")
    assert workshop.object_keys() == []


# The password -------------------------------------------------------------------------------------------------------


def every_value(url: str) -> Iterator[tuple[str, str]]:
    """All rows of all tables of a database as text, bytes as they are."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for (table,) in tables:
            for (row,) in connection.execute(f"SELECT t::text FROM {table} AS t").fetchall():
                yield table, row


def holders(needle: str, url: str, home: Path) -> list[str]:
    """Where a text is found: as it is, or as the hex in which PostgreSQL shows bytes."""
    shapes = (needle, needle.encode().hex())
    found = [table for table, row in every_value(url) if any(shape in row for shape in shapes)]
    files = (path for path in home.rglob("*") if path.is_file())
    return found + [str(path) for path in files if needle.encode() in path.read_bytes()]


def test_the_password_is_nowhere_after_an_export(
    workshop: Workshop, control_url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    request_id = workshop.order({**CONFIG, "encryption": AES}, requested_by="find me")
    assert holders("find me", control_url, workshop.settings.home)  # the search finds what is there
    assert holders(PASSWORD, control_url, workshop.settings.home) == []
    workshop.run_job(request_id)
    request = workshop.services.requests.get(request_id)
    assert request.status is RequestStatus.COMPLETED
    assert request.config["encryption"]["password"] == SEALED
    assert holders(PASSWORD, control_url, workshop.settings.home) == []
    assert all(PASSWORD not in str(entry) for entry in workshop.instance.all_logs(str(request.run_id)))
    said = capfd.readouterr()
    assert PASSWORD not in said.out + said.err + caplog.text


ENDS: dict[str, str] = {
    "completed": "status = 'completed', package_prefix = 'p', run_id = 'r'",
    "cancelled": "status = 'cancelled'",
    "failed": "status = 'failed', error_message = 'm'",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_sealed_password_goes_with_the_end_of_its_request(workshop: Workshop, control_url: str, end: str) -> None:
    request_id = workshop.order({**CONFIG, "encryption": AES})
    assert workshop.services.requests.password_of(request_id).get_secret_value() == PASSWORD
    with psycopg.connect(control_url) as connection:
        if end == "completed":
            connection.execute("UPDATE export_control.export_requests SET status = 'processing', run_id = 'r'")
        connection.execute(f"UPDATE export_control.export_requests SET {ENDS[end]}")
        assert connection.execute("SELECT sealed_secrets FROM export_control.export_requests").fetchone() == (None,)


def test_a_retry_asks_for_the_password_again(workshop: Workshop) -> None:
    requests = workshop.services.requests
    request_id = workshop.order({**CONFIG, "encryption": AES})
    requests.request_cancel(request_id)
    with pytest.raises(RequestRejected, match="give it again"):
        requests.retry(request_id)
    assert requests.retry(request_id, password=SecretStr("another password")) == 2
    workshop.run(request_id)
    archive, _ = sorted(workshop.package(requests.get(request_id)).iterdir())
    assert seven_zip("t", archive, "another password").returncode == 0


def test_a_request_that_lost_its_password_says_how_to_go_on(workshop: Workshop, control_url: str) -> None:
    with psycopg.connect(control_url) as connection:
        connection.execute("SET session_replication_role = replica")  # as if it came back from a backup
        connection.execute(
            "INSERT INTO export_control.export_requests (tenant_id, config) VALUES (%s, %s)",
            ("t", json.dumps({**CONFIG, "encryption": {**AES, "password": SEALED}})),
        )
    (request,) = workshop.services.requests.list()
    workshop.run(request.id)
    ended = workshop.services.requests.get(request.id)
    assert (ended.status, ended.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert "requests retry" in str(ended.error_message)


def test_a_key_that_is_none_is_said_before_rows_are_read(workshop: Workshop) -> None:
    request = workshop.export({**CONFIG, "encryption": {"method": "age", "recipients": ["age1" + "q" * 58]}})
    assert (request.status, request.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert "encryption.recipients" in str(request.error_message)
    assert request.rows_processed == 0
