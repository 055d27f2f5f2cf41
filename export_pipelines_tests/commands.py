"""The command line as a process of its own, without its first seconds: copied from one that has imported everything.

Arguments, environment, folder, streams and exit code are a process's; only the import is shared. That the installed
command starts by itself is for `acceptance/test_readme.py` and `test_command_line.py`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import pytest

from export_pipelines.orchestration.warm import ENVIRONMENT

TIMEOUT_SECONDS = 120
_SERVER = multiprocessing.get_context("forkserver")


class Answer(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    stdout: str
    stderr: str


def run_command(*arguments: str, folder: Path, environment: Mapping[str, str]) -> Answer:
    """Run it to its end, in ``folder``, with ``environment`` on top of the test's own."""
    with tempfile.TemporaryDirectory() as streams:
        out, err = Path(streams, "out"), Path(streams, "err")
        process = start_command(*arguments, folder=folder, environment=environment, out=out, err=err)
        process.join(TIMEOUT_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        answer = Answer(process.exitcode or 0, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))
        process.close()
        return answer


def start_command(
    *arguments: str, folder: Path, environment: Mapping[str, str], out: Path, err: Path
) -> ForkServerProcess:
    """Start it, the leader of a group of its own, with its streams in files."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)  # for the server, which starts with the first command
        _SERVER.set_forkserver_preload(["export_pipelines_tests.preloaded"])
        process = _SERVER.Process(
            target=_become, args=(arguments, str(folder), {**os.environ, **environment}, str(out), str(err))
        )
        process.start()
    return process


def _become(arguments: tuple[str, ...], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    from export_pipelines.cli import main

    os.setsid()
    os.chdir(folder)
    for path, descriptor in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["export-pipelines", *arguments]
    main()
