"""The fork server of warm runs and copies of it, without Dagster's code server; prints JSON of what they are.

``python -m export_pipelines_tests.orchestration.fork_server``, a process of its own: a process has one fork server.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import ssl
import sys
import time
import uuid
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from export_pipelines.orchestration import warm
from export_pipelines.orchestration.code_server import WARMED

FEW, MANY = 2, 12
_FORK_SERVER = multiprocessing.get_context("forkserver")


def look(answers: Connection) -> None:
    """What a copy has, and random values of each source that a run draws from."""
    answers.send(
        {
            "dagster": "dagster" in sys.modules,
            "polars": "polars.dataframe" in sys.modules,
            "random": [random.random(), uuid.uuid4().hex, os.urandom(8).hex(), ssl.RAND_bytes(8).hex()],
            "template": os.getppid(),
        }
    )


def work(answers: Connection) -> None:
    """Until it is interrupted; first forks a process of its own, which must live as long as it likes."""
    child = os.fork()
    if child == 0:
        time.sleep(0.2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    answers.send(os.waitstatus_to_exitcode(status))
    try:
        time.sleep(60)
        answers.send("was left alone")
    except KeyboardInterrupt:
        answers.send("interrupted")


def looks(count: int) -> list[dict[str, object]]:
    found = []
    for _ in range(count):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = _FORK_SERVER.Process(target=look, args=(theirs,))
        process.start()
        found.append(ours.recv())
        process.join()
    return found


def template() -> psutil.Process:
    (found,) = [each for each in psutil.Process().children() if "forkserver" in " ".join(each.cmdline())]
    return found


def held(process: psutil.Process) -> dict[str, object]:
    return {
        "bytes": process.memory_full_info().uss,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "children": [child.pid for child in process.children()],
        "inet": [str(each) for each in process.net_connections("inet")],
        "files": sorted({Path(file.path).name for file in process.open_files()}),
    }


def main() -> None:
    os.environ.update(warm.ENVIRONMENT)
    _FORK_SERVER.set_forkserver_preload([WARMED])
    forkserver.ensure_running()
    reported: dict[str, object] = {"copies": looks(FEW), "at_first": held(template())}
    if "--long" in sys.argv:
        reported["copies"] = looks(MANY)
        reported["at_last"] = held(template())
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = _FORK_SERVER.Process(target=work, args=(theirs,))
        process.start()
        reported["forked_by_a_copy"] = ours.recv()
        killed = template()
        os.kill(killed.pid, signal.SIGKILL)
        reported["when_the_template_is_killed"] = ours.recv() if ours.poll(10) else "nothing"
        while killed.status() != psutil.STATUS_ZOMBIE:  # `multiprocessing` must see that it ended, and reap it
            time.sleep(0.01)
        (copy,) = looks(1)
        reported["another_template"] = copy["dagster"] and copy["template"] != killed.pid
    print(json.dumps(reported))  # noqa: T201 - for the test


if __name__ == "__main__":
    main()
