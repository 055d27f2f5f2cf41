"""Child processes of a test run: started in the background, killed with it, their output kept for the failure message.

Servers live in processes of their own because their libraries patch the interpreter or warn at import, and the
tests treat every warning as an error.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from export_pipelines.embedded import child
from export_pipelines.embedded.ports import free_ports

HOST = "127.0.0.1"
STOP_SECONDS = 10
_POLL_SECONDS = 0.05
_PLAIN = {"PYTHONWARNINGS": "ignore", "PYTHONPATH": os.pathsep.join(sys.path)}


class ServerProcess:
    """One Python program and the file that its output goes to."""

    def __init__(
        self, name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = folder / f"{name}.log"
        launcher = [sys.executable, child.__file__, str(os.getpid()), str(os.getuid()), str(os.getgid())]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*launcher, sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**os.environ, **_PLAIN, **(environment or {})},
                start_new_session=True,
            )

    def require_alive(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.log.stem} ended at once:\n{self.log.read_text(errors='replace')[-3000:]}")

    def await_end(self, timeout_seconds: float = 60) -> None:
        """For a program that ends by itself."""
        if self._process.wait(timeout_seconds) != 0:
            self.require_alive()

    def stop(self) -> None:
        """End it and all that it started."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


def ports(count: int) -> list[int]:
    """Distinct loopback ports that nobody listens on now."""
    return list(itertools.islice(free_ports(0), count))


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def await_ready(ready: Callable[[], bool], processes: Sequence[ServerProcess], *, timeout_seconds: float = 60) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        for process in processes:
            process.require_alive()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{processes[-1].log.stem} did not answer within {timeout_seconds} s")
        time.sleep(_POLL_SECONDS)
