"""Many small exports by the real job in one process; the first, which also fills caches, is told apart."""

from __future__ import annotations

import argparse
import json
import time

from benchmarks.datasets import TENANT
from benchmarks.programs.opened import answer, opened_services, refusals_reported, workplace
from benchmarks.programs.steps import Clock, plan_of, run_steps
from export_pipelines.commands.local_run import run_here
from export_pipelines.commands.ordering import order_of
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.status import RequestStatus
from export_pipelines.embedded.workplace import Workplace
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.planning.orders import EstimatedOrder, plan_order
from export_pipelines.pipeline.services import open_services


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--functions", action="store_true", help="the pipeline's functions instead of the job")
    arguments = parser.parse_args()
    with refusals_reported(), workplace() as place:
        measured = _functions if arguments.functions else _jobs
        first, *others = measured(arguments.config, place, arguments.count + 1)
        answer(seconds=sorted(others)[len(others) // 2], each=others, first=first)


def _jobs(config: dict[str, object], place: Workplace, count: int) -> list[float]:
    order = EstimatedOrder(planned=plan_order(order_of(config, TENANT), open_catalog(place.settings)))
    found = []
    with open_services(place.settings) as services:
        for _ in range(count):
            started = time.perf_counter()
            request = run_here(order, services, quiet=True)
            found.append(round(time.perf_counter() - started, 4))
            if request.status is not RequestStatus.COMPLETED:
                raise RequestRejected(f"the export ended {request.status}: {request.error_message}")
    return found


def _functions(config: dict[str, object], place: Workplace, count: int) -> list[float]:
    found = []
    with opened_services(place) as services:
        for number in range(count):
            clock = Clock()
            run_steps(plan_of(config, services, f"bench-{number}"), services, clock)
            found.append(round(sum(clock.steps.values()), 4))
    return found


if __name__ == "__main__":
    main()
