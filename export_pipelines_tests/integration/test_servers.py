"""The servers of the tests themselves: they must not outlive the run that started them, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export_pipelines_tests.servers.processes import accepts
from export_pipelines_tests.servers.s3 import running_s3
from export_pipelines_tests.servers.smtp import running_smtp

_RUN = """
import sys, time
from pathlib import Path
from export_pipelines_tests.servers.s3 import running_s3
from export_pipelines_tests.servers.smtp import running_smtp
with running_s3(Path(sys.argv[1])) as s3, running_smtp(Path(sys.argv[1])) as smtp:
    print(s3.endpoint.rpartition(":")[2], smtp.port, flush=True)
    time.sleep(600)
"""


def gone(port: int, timeout_seconds: float = 15) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while accepts(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_servers_end_with_their_context(tmp_path: Path) -> None:
    with running_s3(tmp_path) as s3, running_smtp(tmp_path) as smtp:
        found = [int(s3.endpoint.rpartition(":")[2]), smtp.port]
        assert all(map(accepts, found))
    assert not any(map(accepts, found))
    assert not list(tmp_path.glob("s3-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_servers_end_when_the_run_is_killed(tmp_path: Path, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _RUN, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as run:
        assert run.stdout is not None
        found = [int(port) for port in run.stdout.readline().split()]
        assert len(found) == 2
        run.send_signal(number)
    assert all(map(gone, found))
