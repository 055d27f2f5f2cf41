"""The pipeline's functions one after another, without Dagster, request table or publishing: what each of them costs."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from benchmarks.datasets import TENANT
from benchmarks.programs.opened import answer, opened_services, refusals_reported, workplace
from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.model import ExportPlan, StagedTable, TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.pipeline.extract.stage import stage_tables
from export_pipelines.pipeline.memory import release_unused
from export_pipelines.pipeline.progress import Unwatched
from export_pipelines.pipeline.publish.package import assemble_package
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.write.convert import convert_tables

_Answer = TypeVar("_Answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads)
    arguments = parser.parse_args()
    with refusals_reported(), workplace() as place, opened_services(place) as services:
        clock = Clock()
        tables = run_steps(plan_of(arguments.config, services), services, clock)
        answer(seconds=sum(clock.steps.values()), steps=clock.steps, counted_rows=sum(table.rows for table in tables))


class Clock:
    """Seconds by step; memory goes back to the system between steps, as in a run."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        release_unused()
        self.steps[name] = round(time.perf_counter() - started, 4)


def plan_of(config: dict[str, Any], services: ExportServices, request_id: str = "bench") -> ExportPlan:
    return as_known(
        plan_export,
        parse_configuration(config),
        services.catalog,
        request_id=request_id,
        attempt=1,
        scope=TenantScope(tenant_id=TENANT),
        requested_at=dt.datetime.now(dt.UTC),
        formats=services.formats(),
        codecs=_codecs(),
    )


def _codecs() -> Mapping[str, Any]:
    """Of this version, if it has any to name."""
    try:
        return dict(importlib.import_module("export_pipelines.packaging.codecs").CODECS)
    except ModuleNotFoundError:
        return {}


def as_known(function: Callable[..., _Answer], *arguments: Any, **named: Any) -> _Answer:
    """Call with the named arguments that this version of the function has: one benchmark for many commits."""
    known = inspect.signature(function).parameters
    return function(*arguments, **{name: value for name, value in named.items() if name in known})


def run_steps(plan: ExportPlan, services: ExportServices, clock: Clock) -> tuple[StagedTable, ...]:
    """Stage, convert, validate, package; nothing is published."""
    with clock.step("stage"):
        staged = stage_tables(plan, services, Unwatched())
    with clock.step("convert"):
        files = tuple(convert_tables(plan, staged, services, Unwatched()))
    with clock.step("validate"):
        verdicts = tuple(validate_files(plan, staged, files, services, Unwatched()))
    with clock.step("package"):
        as_known(assemble_package, plan, staged, files, verdicts, services, run_id="bench")
    return staged.tables


if __name__ == "__main__":
    main()
