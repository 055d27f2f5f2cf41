"""What the commands of tests import before they start (`export_pipelines_tests.commands`). Starts no thread."""

from __future__ import annotations

import gc
import importlib

from export_pipelines.allocators import share_allocator
from export_pipelines.orchestration.warm import PUT_OFF, put_off

share_allocator()
put_off(PUT_OFF)

from export_pipelines.cli import COMMANDS  # noqa: E402 - after memory is settled, as in `export_pipelines.__main__`

for place in COMMANDS.values():
    importlib.import_module(f"export_pipelines.commands.{place.split(':')[0]}")
for name in (
    "dagster",
    "dagster_postgres",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "upath",
    "export_pipelines.orchestration.assets",
    "export_pipelines.orchestration.export",
    "export_pipelines.orchestration.run_history",
    "export_pipelines.orchestration.jobs",
    "export_pipelines.orchestration.resources",
    "export_pipelines.orchestration.operator_schedules",
    "export_pipelines.orchestration.sensors",
    "export_pipelines.orchestration.storage",
):
    importlib.import_module(name)

gc.collect()
gc.freeze()  # what is copied stays shared
