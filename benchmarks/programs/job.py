"""One export by the real job, as `export-pipelines export` runs it: request, plan, …, publish, deliver, finish.

``seconds`` is from the insertion of the request to the end of the run. The seconds of a step are Dagster's, from its
event log. With ``--package`` the published folder is kept for other programs to read.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import time
from pathlib import Path

from benchmarks.datasets import TENANT
from benchmarks.programs.opened import answer, refusals_reported, workplace
from export_pipelines.commands.local_run import run_here
from export_pipelines.commands.ordering import order_of
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.status import RequestStatus
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.planning.orders import EstimatedOrder, plan_order
from export_pipelines.pipeline.services import open_services


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads)
    parser.add_argument("--package", type=Path)
    arguments = parser.parse_args()
    with refusals_reported(), workplace() as place, open_services(place.settings) as services:
        importlib.import_module("export_pipelines.definitions")  # loading is no part of the work, for us as for others
        order = EstimatedOrder(planned=plan_order(order_of(arguments.config, TENANT), open_catalog(place.settings)))
        started = time.perf_counter()
        request = run_here(order, services, quiet=True)
        seconds = time.perf_counter() - started
        if request.status is not RequestStatus.COMPLETED:
            raise RequestRejected(f"the export ended {request.status}: {request.error_message}")
        answer(
            seconds=seconds,
            steps=step_seconds(str(request.run_id)),
            counted_rows=request.package_rows,
            size_bytes=request.package_bytes,
        )
        if arguments.package:
            published = place.settings.home / "objects" / str(request.package_prefix)
            shutil.copytree(published, arguments.package, dirs_exist_ok=True)


def step_seconds(run_id: str) -> dict[str, float]:
    """Of each op of the run."""
    from dagster import DagsterInstance  # after the environment names its home

    with DagsterInstance.get() as instance:
        found = instance.get_run_step_stats(run_id)
    return {
        step.step_key.removeprefix("export."): round(step.end_time - step.start_time, 3)
        for step in found
        if step.end_time is not None and step.start_time is not None
    }


if __name__ == "__main__":
    main()
