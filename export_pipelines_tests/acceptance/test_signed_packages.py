"""Packages are signed, and anybody with the public keys can tell: by our program, and by ten lines without it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from click.testing import Result
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.core.signing import PublicKey, SignatureStatus
from export_pipelines.core.status import RequestStatus
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.key_sets import key_set
from export_pipelines.packaging.manifest import to_json
from export_pipelines.packaging.signing import signed
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.stores.requests import ExportRequest
from export_pipelines_tests.lanes import EXHAUSTIVE
from export_pipelines_tests.unit.test_signing import THEIRS
from export_pipelines_tests.workshop import FinishedExports, Workshop

PASSWORD = "Tr0ub4dor & 3 staples"
CONFIG: dict[str, Any] = {"name": "Ours", "tables": ["pets", "lab_results"], "format": "csv"}
SEALED: dict[str, Any] = {"encryption": {"method": "AES256", "password": PASSWORD}}
FORMS: list[dict[str, Any]] = [{}, {"compression": "zip"}, SEALED, {"format": "json", "compression": "gzip"}]
DOCUMENT = Path(__file__).parents[2] / "docs" / "packages.md"


@dataclass(frozen=True)
class Published:
    """Packages to do anything with, and the keys of who signed them."""

    finished: FinishedExports
    folder: Path

    def package(self, **config: Any) -> Path:
        """A copy of a published package."""
        return self.finished.package(self.folder, {**CONFIG, **config})

    def public_keys(self) -> list[PublicKey]:
        return self.finished.workshop.services.signing.published()

    def keys_file(self) -> Path:
        """What verifiers have fetched."""
        path = self.folder / "keys.json"
        path.write_text(json.dumps(key_set(self.public_keys())))
        return path


@pytest.fixture
def published(finished: FinishedExports, tmp_path: Path) -> Published:
    return Published(finished, tmp_path)


def exported(workshop: Workshop, **config: Any) -> Path:
    """Folder of a package that a workshop of the test's own has published."""
    request: ExportRequest = workshop.export({**CONFIG, **config})
    assert (request.status, request.error_message) == (RequestStatus.COMPLETED, None)
    return workshop.package(request)


def verify(package: Path, *arguments: object) -> Result:
    command = ["verify", str(package), *map(str, arguments)]
    return CliRunner(env={"EXPORT_PASSWORD": PASSWORD}).invoke(app, command)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "manifest.json"
    path.write_bytes(to_json(change(json.loads(path.read_bytes()))))


@pytest.mark.parametrize("form", FORMS, ids=["folder", "zip", "encrypted", "JSON"])
def test_every_package_is_signed_and_verifies_with_the_published_keys(
    published: Published, form: dict[str, Any]
) -> None:
    package = published.package(**form)
    [key] = published.public_keys()
    checked = verify(package, "--keys", published.keys_file())
    assert checked.exit_code == 0, checked.output
    assert f"signature: signed by {key.key_id}" in checked.output
    assert f"signed by {key.key_id}, not checked (give --keys)" in verify(package).output
    reported = json.loads(verify(package, "--keys", published.keys_file(), "--json").stdout)
    assert (reported["valid"], reported["trusted"], reported["signature"]) == (
        True,
        True,
        {"status": "valid", "key_id": key.key_id},
    )


def test_the_archive_alone_verifies_too(published: Published) -> None:
    for form in FORMS[1:3]:
        [archive] = published.package(**form).glob("*.zip")
        assert verify(archive, "--keys", published.keys_file()).exit_code == 0


def test_an_encrypted_package_is_checked_from_outside_without_its_password(published: Published) -> None:
    package = published.package(**SEALED)
    command = ["verify", str(package), "--keys", str(published.keys_file())]
    assert CliRunner().invoke(app, command).exit_code == 2  # there is nobody to ask for the password
    outside = CliRunner().invoke(app, [*command, "--unopened"])
    assert (outside.exit_code, "not opened" in outside.output) == (0, True)
    [archive] = package.glob("*.zip")
    archive.write_bytes(archive.read_bytes()[:-1] + b"\x01")
    assert CliRunner().invoke(app, [*command, "--unopened"]).exit_code == 3
    assert CliRunner().invoke(app, ["verify", str(archive), "--unopened"]).exit_code == 2


def resigned(manifest: dict[str, Any]) -> dict[str, Any]:
    del manifest["signature"]
    return signed(manifest, THEIRS)


TAMPERINGS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], SignatureStatus]] = {
    "another value": (lambda found: {**found, "export": {**found["export"], "name": "0urs"}}, SignatureStatus.WRONG),
    "signature removed": (
        lambda found: {key: value for key, value in found.items() if key != "signature"},
        SignatureStatus.MISSING,
    ),
    "signed by a stranger": (resigned, SignatureStatus.UNKNOWN_KEY),
    "a stranger's, under our key's name": (
        lambda found: {
            **found,
            "signature": {**resigned({**found})["signature"], "key_id": found["signature"]["key_id"]},
        },
        SignatureStatus.WRONG,
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
@pytest.mark.parametrize("form", [{}, pytest.param(SEALED, marks=EXHAUSTIVE)], ids=["folder", "encrypted"])
def test_a_manifest_that_our_key_did_not_sign_has_an_exit_code_of_its_own(
    published: Published, form: dict[str, Any], name: str
) -> None:
    package = published.package(**form)
    change, expected = TAMPERINGS[name]
    rewrite(package, change)
    checked = verify(package, "--keys", published.keys_file())
    assert checked.exit_code == 6, checked.output
    reported = json.loads(verify(package, "--keys", published.keys_file(), "--json").stdout)
    assert (reported["valid"], reported["trusted"], reported["signature"]["status"]) == (True, False, expected)
    assert verify(package).exit_code == 0  # nobody asked who signed


def test_a_zip_is_judged_by_the_manifest_in_it(published: Published, tmp_path: Path) -> None:
    package = published.package(compression="zip")
    [archive] = package.glob("*.zip")
    forged = tmp_path / "forged.zip"
    with zipfile.ZipFile(archive) as found, zipfile.ZipFile(forged, "w") as target:
        for entry in found.infolist():
            content = found.read(entry)
            if entry.filename.endswith("/manifest.json"):
                content = to_json(resigned(json.loads(content)))
            target.writestr(entry.filename, content)
    assert verify(forged, "--keys", published.keys_file()).exit_code == 6


def test_damage_to_the_data_stays_an_integrity_violation(published: Published) -> None:
    package = published.package()
    rewrite(package, resigned)
    (package / "data" / "pets.csv").write_bytes(b"id\r\n")
    assert verify(package, "--keys", published.keys_file()).exit_code == 3


def test_a_key_file_that_is_none_is_a_bad_request(published: Published, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": [{"kty": "RSA"}]}')
    assert verify(published.package(), "--keys", tmp_path / "keys.json").exit_code == 2


def test_packages_from_before_and_after_a_rotation_verify_until_a_key_is_revoked(workshop: Workshop) -> None:
    environment = {"EXPORT_HOME": str(workshop.settings.home)}

    def signing(*arguments: str) -> str:
        done = CliRunner(env=environment).invoke(app, ["signing", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    before = exported(workshop)
    rotated = json.loads(signing("rotate", "--json"))
    after = exported(workshop)
    public = workshop.settings.home / "public.json"
    public.write_text(signing("public"))
    assert [verify(package, "--keys", public).exit_code for package in (before, after)] == [0, 0]
    signing("revoke", rotated["retired"], "--yes")
    public.write_text(signing("public"))
    assert [verify(package, "--keys", public).exit_code for package in (before, after)] == [6, 0]
    assert "WHICH IS REVOKED" in verify(before, "--keys", public).output
    assert [entry["kid"] for entry in json.loads(signing("list", "--json"))] == [rotated["retired"], rotated["in_use"]]
    assert re.search(r"revoked.*\n.*in use", signing("list"))
    noted = CliRunner(env=environment).invoke(app, ["audit", "list", "--format", "ndjson"]).stdout.splitlines()
    assert [json.loads(line)["action"] for line in noted] == ["signing.rotate", "signing.revoke"]


def test_the_recipe_in_the_documentation_verifies_a_package_without_our_program(
    published: Published, tmp_path: Path
) -> None:
    """With the two libraries that it names, and nothing of ours."""
    [recipe] = re.findall(r"```python\n(# check\.py\n.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert "export_pipelines" not in recipe
    (tmp_path / "check.py").write_text(recipe)
    package = published.package(tables=["lab_results", "medical_records", "profiles"])  # figures of every sort

    def check() -> int:
        command = [sys.executable, "-I", str(tmp_path / "check.py"), str(package / "manifest.json")]
        done = subprocess.run([*command, str(published.keys_file())], cwd=tmp_path, capture_output=True, check=False)
        return done.returncode

    assert check() == 0
    rewrite(package, TAMPERINGS["another value"][0])
    assert check() != 0


def test_openssl_verifies_the_signature(published: Published, tmp_path: Path) -> None:
    """Its arithmetic and ours agree."""
    manifest = json.loads((published.package() / "manifest.json").read_bytes())
    signature = manifest.pop("signature")
    [key] = published.public_keys()
    prefix = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of Ed25519, RFC 8410
    (tmp_path / "key.der").write_bytes(prefix + key.public_key)
    (tmp_path / "message").write_bytes(rfc8785.dumps(manifest))
    (tmp_path / "signature").write_bytes(base64.urlsafe_b64decode(signature["value"] + "=="))
    command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in message -sigfile signature"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "Signature Verified Successfully")


def test_verification_as_a_function_tells_the_same(published: Published) -> None:
    package = published.package()
    trusted = {key.key_id: key for key in published.public_keys()}
    assert verify_package(package, find_format, trusted=trusted).signature.trusted
    assert verify_package(package, find_format, trusted={}).signature.status is SignatureStatus.UNKNOWN_KEY
