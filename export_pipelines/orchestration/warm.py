"""What the fork server imports before any run: everything a run needs that starts no thread.

A thread does not survive a fork, but what waits for it or is locked by it does. polars starts one when it is imported,
so that is put off until there is a copy, which does it first of all. OpenBLAS and jemalloc are told by `ENVIRONMENT` to
do without. `strays` says what has a thread all the same.

A copy does not outlive the process it was copied from: the kernel interrupts it, as Ctrl-C of `up` does, and it gives
its request back. Nobody would be told how it ends, and nothing could stop it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

from export_pipelines.pipeline.planning.runs import CONVERT_JOB, EXPORT_JOB

ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""For the fork server, before it starts."""

DEFINITIONS = "export_pipelines.definitions"
PUT_OFF = "polars"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_NEEDED = ("dagster_postgres", "sqlalchemy.dialects.postgresql.psycopg2", "export_pipelines.orchestration.storage")
_log = logging.getLogger("dagster.code_server")


class _Later(ModuleType):
    """Stands for a module in `sys.modules`, and becomes it with `load` or when something of it is asked for."""

    def __getattr__(self, name: str) -> object:
        if self.__class__ is not _Later:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        load(self)
        return getattr(self, name)


def put_off(name: str) -> ModuleType:
    """The module, importable by everybody and not yet executed."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"no module named {name!r}", name=name)
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Later  # what the import system has set on it stays
    sys.modules[name] = module
    return module


def load(module: ModuleType) -> None:
    """Execute a module that was put off."""
    if module.__class__ is _Later and module.__spec__ is not None and module.__spec__.loader is not None:
        module.__class__ = ModuleType  # type: ignore[assignment]
        module.__spec__.loader.exec_module(module)


def strays() -> list[str]:
    """Names of this process's threads beside the main one, those of libraries too; none where there is no /proc."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return []
    return [(task / "comm").read_text().strip() for task in tasks.iterdir() if int(task.name) != os.getpid()]


def warm_up() -> None:
    """Import, build the jobs, and settle what copies share."""
    _prepare_copies(put_off(PUT_OFF))
    for name in _NEEDED:
        importlib.import_module(name)
    _build_jobs()
    if found := strays():
        _log.warning("runs are forked from a process with threads of its own: %s", ", ".join(found))
    gc.collect()
    gc.freeze()  # collections in a copy pass over these objects, so their pages stay shared


def _prepare_copies(later: ModuleType) -> None:
    """Have each copy begin with what was put off, and end with this process."""
    template, library, begun = os.getpid(), ctypes.CDLL(None), False

    def begin() -> None:
        nonlocal begun
        if not begun:  # a copy of this process, and not what a copy forks
            begun = True
            load(later)
            _end_with(template, library)

    os.register_at_fork(after_in_child=begin)


def _end_with(template: int, library: ctypes.CDLL) -> None:
    """Be interrupted when the template ends; at once if it has."""
    if sys.platform != "linux":
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the fork server ignores it, and sets it back too late
    library.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGINT))
    if os.getppid() != template:  # it ended before prctl
        os._exit(1)


def _build_jobs() -> None:
    """As a run will ask for them; Dagster keeps them with the definitions."""
    from export_pipelines.formats.registry import all_formats  # late: formats import polars

    all_formats()
    repository = importlib.import_module(DEFINITIONS).defs.get_repository_def()
    for name in (EXPORT_JOB, CONVERT_JOB):
        repository.get_job(name)
