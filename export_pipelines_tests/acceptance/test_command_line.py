"""What the installed command answers to wrong input: the option or variable by name, the next step, the exit code."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export_pipelines_tests.commands import Answer, run_command

COMMAND = Path(sys.executable).with_name("export-pipelines")
EXPORT = ("export", "--tenant", "t", "--tables", "pets", "--format", "csv")
NOWHERE = "postgresql://nobody:secret-word@127.0.0.1:9/void"


def run(folder: Path, *arguments: str, **environment: str) -> Answer:
    """The command without any database behind it."""
    return run_command(*arguments, folder=folder, environment=_nowhere(folder) | environment)


def _nowhere(folder: Path) -> dict[str, str]:
    return {"EXPORT_SOURCE_URL": NOWHERE, "EXPORT_CONTROL_URL": NOWHERE, "EXPORT_HOME": str(folder / "home")}


def test_the_installed_command_answers_wrong_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(COMMAND), *EXPORT], env={**os.environ, **_nowhere(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "control database does not answer" in done.stderr) == (4, True)


WRONG: list[tuple[tuple[str, ...], dict[str, str], int, str]] = [
    (EXPORT, {}, 4, "control database does not answer"),
    (EXPORT, {"EXPORT_HOME": "/proc/nowhere"}, 2, "EXPORT_HOME: /proc/nowhere cannot be made"),
    (EXPORT, {"EXPORT_CONTROL_URL": "mysql://x/y"}, 2, "EXPORT_CONTROL_URL"),
    (EXPORT, {"SMTP_PORT": "abc"}, 2, "SMTP_PORT"),
    ((*EXPORT, "--output", "/proc/nowhere/out"), {}, 2, "--output: /proc/nowhere/out cannot be made"),
    ((*EXPORT, "--fields", "pets"), {}, 2, "--fields: 'pets' is not table:column,column"),
    ((*EXPORT, "--fields", "petz:id"), {}, 2, "--fields: names petz, which is not in --tables"),
    ((*EXPORT, "--option", "json_pretty"), {}, 2, "--option: 'json_pretty' is not name=value"),
    (("export", "--tenant", "t", "--tables", "", "--format", "csv"), {}, 2, "--tables: is empty"),
    ((*EXPORT, "--encrypt", "aes256"), {}, 2, "encryption.password: is needed"),
    ((*EXPORT, "--encrypt", "aes256"), {"EXPORT_PASSWORD": "secret-word"}, 2, "has 11 characters; use 12 to 99"),
    ((*EXPORT, "--encrypt", "rot13"), {}, 2, "encryption.method: must be 'AES256' or 'age'"),
    ((*EXPORT, "--encrypt", "age", "--recipient", "age1" + "q" * 58), {}, 2, "is not a public key that age can use"),
    ((*EXPORT, "--recipient", "age1q"), {}, 2, "--encrypt: is needed with a recipient"),
    ((*EXPORT, "--encrypt", "aes256", "--password-file", "none"), {}, 2, "--password-file: none cannot be read"),
    ((*EXPORT, "--split", "month", "--max-size-mb", "0"), {}, 2, "split_files.max_size_mb: 0 is outside"),
    (EXPORT, {"EXPORT_MAX_FILE_SIZE": "much"}, 2, "EXPORT_MAX_FILE_SIZE: must be bytes or a size such as 500MB"),
    (("verify", "nothing.zip"), {}, 2, "nothing.zip is not a package"),
    (("verify", ".", "--identity", "none"), {}, 2, "--identity: none cannot be read as a key file"),
    (("catalog", "show", "--catalog", "nothing.yaml"), {}, 2, "catalog nothing.yaml does not exist"),
    (("catalog", "show", "petz"), {}, 2, "table 'petz' is not in the catalog; did you mean 'pets'?"),
    (("catalog", "check", "--admin-url", "foo"), {}, 2, "cannot be parsed"),
    (("catalog", "check", "--admin-url", NOWHERE), {}, 4, "127.0.0.1:9/void does not answer"),
    (("requests", "list"), {}, 4, "does not answer"),
    (("migrate",), {}, 4, "does not answer"),
]


@pytest.mark.parametrize(("arguments", "environment", "code", "message"), WRONG, ids=[wrong[3] for wrong in WRONG])
def test_wrong_input_is_named_and_ends_with_its_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], code: int, message: str
) -> None:
    done = run(tmp_path, *arguments, **environment)
    assert (done.code, message in " ".join(done.stderr.split())) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-word" not in done.stderr + done.stdout


def test_a_package_that_was_cut_is_damaged_not_unknown(tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04" + bytes(200))
    done = run(tmp_path, "verify", "cut.zip")
    assert (done.code, "damaged or incomplete" in done.stderr) == (3, True)


def test_a_second_service_on_one_home_is_refused(tmp_path: Path) -> None:
    from export_pipelines.core.errors import Unavailable
    from export_pipelines.embedded.services import SERVICES_LOCK, running_services
    from export_pipelines.embedded.workplace import Workplace
    from export_pipelines.settings import Settings

    workplace = Workplace(settings=Settings(EXPORT_HOME=tmp_path), admin_url=None)
    with (tmp_path / SERVICES_LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="is already running"), running_services(workplace):
            pass
