"""Measures a service whose assets have very many partitions: ticks, dispatch, and the queries of Dagster's UI."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measuring import Contestant, tell
from benchmarks.measuring import measure as run_program
from benchmarks.results import Measurement
from benchmarks.scale import history, orders, pages, ticking
from benchmarks.scale.cases import CASES, Case
from benchmarks.scale.history import Model, Partitions, monthly_keys
from benchmarks.scale.place import Place, add_tenants, database_bytes, place, resident_bytes, serving
from benchmarks.scale.recording import Record, run_of
from benchmarks.scale.tables import VOLUMES
from benchmarks.scale.ticks import daemon
from export_pipelines.orchestration.partitions import tenant_partitions_name

NAME = "scale"

_LOAD = "import export_pipelines.definitions as loaded; loaded.defs.get_repository_def()"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is measured, and how often."""

    cases: Sequence[Case] = CASES
    repeat: int = 3
    schedules: int = orders.SCHEDULES
    due: int = orders.DUE

    @property
    def rows(self) -> int:
        """Partitions of the largest asset."""
        return max((case.buckets or case.tenants) * case.months for case in self.cases)


def measure(home: Path, size: Size) -> list[Measurement]:
    """Case after case, each with a service of its own."""
    return [each for case in size.cases for each in _measured(home / case.name, case, size)]


def _measured(home: Path, case: Case, size: Size) -> list[Measurement]:
    tell(f"{case.label} …")
    record = Record(dataset=case.name, repeat=size.repeat, keys=(case.buckets or case.tenants) * case.months)
    with place(home, case) as found:
        model = _model(found)
        add_tenants(found, case.tenants)
        with serving(found) as services, daemon(found) as ticks:
            ticking.new_tenants(found, ticks, record, case)
            partitions, volumes = _filled(found, model)
            before = resident_bytes(services)
            pages.pages(found, services, record, partitions)
            volumes["resident_bytes"] = {"before": before, "after": resident_bytes(services)}
            ticking.idle(found, ticks, record, case)
            ticking.dispatch(found, ticks, record, schedules=size.schedules, due=size.due)
            ticking.closing(ticks, record, case)
            pages.launch(found, services, record, partitions)
        _definitions(found, record)
    record.note(VOLUMES, "counts and sizes", [run_of(0.0, **volumes, label=case.label, tenants=case.tenants)])
    return record.found


def _model(found: Place) -> Model:
    """What a real run leaves, taken away again."""
    owner = history.model_owner(found, found.tenants[0])
    if found.catalog.tenant_buckets is None:
        found.instance.add_dynamic_partitions(tenant_partitions_name(found.catalog), [owner])
    model = history.read_model(found, history.run_model(found, owner))
    history.remove_model(found, model)
    return model


def _filled(found: Place, model: Model) -> tuple[Partitions, dict[str, Any]]:
    """The event log with every partition in it, and what it counts and weighs."""
    began = time.perf_counter()
    partitions = Partitions.of(found)
    history.fill(found, model, partitions)
    assets = monthly_keys(found.catalog)
    volumes = {
        "owners": len(partitions.owners),
        "assets": len(assets),
        "keys": len(partitions.keys),
        "materializations": len(partitions.keys) * len(assets),
        "events": _events(found),
        "database_bytes": database_bytes(found),
        "fill_seconds": time.perf_counter() - began,
    }
    tell(f"  filled: {volumes}")
    return partitions, volumes


def _events(found: Place) -> int:
    with psycopg.connect(found.dagster_url) as connection:
        row = connection.execute("SELECT count(*) FROM event_logs").fetchone()
    return int(row[0]) if row else 0


def _definitions(found: Place, record: Record) -> None:
    """A process that loads the code location, from start to exit."""
    environment = {**os.environ, **found.workplace.environment}
    program = Contestant(name="load", label="", command=[sys.executable, "-c", _LOAD], environment=environment)
    record.repeated(
        "definitions", "load the definitions, whole process", lambda: run_program(program, found.home / "scratch")
    )
