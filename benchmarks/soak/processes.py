"""What each long-lived process of a running service holds: memory, file descriptors, threads. By psutil."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

POSTGRES = "PostgreSQL"
LABELS = {
    "up": "`up` itself",
    "daemon": "daemon",
    "code": "code server",
    "template": "template of warm runs",
    "webserver": "webserver",
    "api": "API",
    POSTGRES: "PostgreSQL, all processes",
}
_COMMANDS = {  # what only this process has in its command line
    "template": "multiprocessing.forkserver",
    "code": "export_pipelines.orchestration.code_server",
    "daemon": "export_pipelines.orchestration.daemon",
    "webserver": "dagster_webserver",
    "api": "export_pipelines api",
}


@dataclass(frozen=True, kw_only=True)
class Held:
    """By one process, or by several together."""

    pid: int  # the first one's: another one says that it was started again
    rss_bytes: int
    pss_bytes: int  # a page that n processes share counts a nth; the RSS where the system does not say
    descriptors: int
    threads: int


def held(up_pid: int, postmaster_pid: int) -> dict[str, Held]:
    """What each part holds now; a part that does not run, or ends while it is looked at, is absent."""
    found: dict[str, list[psutil.Process]] = {"up": [psutil.Process(up_pid)], POSTGRES: [*_tree(postmaster_pid)]}
    postgres = {process.pid for process in found[POSTGRES]}
    for process in psutil.Process(up_pid).children(recursive=True):
        if process.pid not in postgres and (name := _name(process)) and name not in found:
            found[name] = [process]
    return {name: sum_ for name, each in found.items() if (sum_ := _together(each)) is not None}


def _name(process: psutil.Process) -> str | None:
    """Runs are copies of the template with its command line; parents come before their children."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        command = " ".join(process.cmdline())
        return next((name for name, words in _COMMANDS.items() if words in command), None)
    return None


def _tree(pid: int) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)


def _together(processes: list[psutil.Process]) -> Held | None:
    found = [one for process in processes if (one := _of(process)) is not None]
    if not found:
        return None
    return Held(
        pid=found[0].pid,
        rss_bytes=sum(one.rss_bytes for one in found),
        pss_bytes=sum(one.pss_bytes for one in found),
        descriptors=sum(one.descriptors for one in found),
        threads=sum(one.threads for one in found),
    )


def _of(process: psutil.Process) -> Held | None:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        memory = process.memory_full_info()
        return Held(
            pid=process.pid,
            rss_bytes=memory.rss,
            pss_bytes=getattr(memory, "pss", memory.rss),
            descriptors=process.num_fds(),
            threads=process.num_threads(),
        )
    return None
