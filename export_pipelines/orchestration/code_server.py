"""Dagster's code server, whose runs begin as copies of a process that has imported everything.

Dagster starts a run as a new interpreter, which imports for 1.4 s of CPU before it works. Here a fork server that has
done so (`warm`) makes a copy of itself. All the rest stays Dagster's: the launcher, the queue, how a run is ended, and
what is said of one that crashed. Where that cannot be done, or `EXPORT_RUN_LAUNCHER=dagster`, runs start as Dagster has
them.

``python -m export_pipelines.orchestration.code_server`` in place of ``dagster api grpc``, with ``--socket``, or with
``--host`` and ``--port``.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import threading
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from dagster._grpc.server import DagsterApiServer, DagsterGrpcServer
from dagster._utils.interrupts import setup_interrupt_handlers
from dagster._utils.log import configure_loggers

from export_pipelines.core.run_launchers import choose_run_launcher
from export_pipelines.orchestration import warm
from export_pipelines.settings import load_settings

WARMED = "export_pipelines.orchestration.warmed"


class WarmApiServer(DagsterApiServer):
    """Starts runs by the fork server, which `multiprocessing` starts again when it is gone."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for name, value in warm.ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([WARMED])
        forkserver.ensure_running()  # it imports while nobody waits
        self._mp_ctx: Any = context  # Dagster's own is "spawn"


def serve(*, host: str, port: int | None = None, socket: str | None = None) -> None:
    """On a socket, or on a port of a host, until SIGINT or SIGTERM.

    What `dagster api grpc -m export_pipelines.definitions` does, with our server.
    """
    setup_interrupt_handlers()
    configure_loggers(formatter="colored", log_level="INFO")
    logger = logging.getLogger("dagster.code_server")
    ended, threads = threading.Event(), FuturesAwareThreadPoolExecutor()
    origin = LoadableTargetOrigin(
        executable_path=sys.executable, module_name=warm.DEFINITIONS, working_directory=str(Path.cwd())
    )
    chosen = choose_run_launcher(load_settings().run_launcher)
    servicer = (WarmApiServer if chosen.name == "warm" else DagsterApiServer)(
        server_termination_event=ended,
        logger=logger,
        server_threadpool_executor=threads,
        loadable_target_origin=origin,
    )
    server = DagsterGrpcServer(
        server_termination_event=ended,
        dagster_api_servicer=servicer,
        logger=logger,
        threadpool_executor=threads,
        host=host,
        port=port,
        socket=socket,
    )
    logger.info("Started code server on %s; runs start as %s", socket or port, chosen)
    try:
        server.serve()  # type: ignore[no-untyped-call]
    except KeyboardInterrupt:
        logger.info("Code server was interrupted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int)
    place.add_argument("--socket")
    arguments = parser.parse_args()
    serve(host=arguments.host, port=arguments.port, socket=arguments.socket)


if __name__ == "__main__":
    main()
