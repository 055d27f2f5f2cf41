"""A migration package, restored into an empty database, holds what the source held, to the last type and constraint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from export_pipelines.formats.registry import find_format
from export_pipelines.pipeline.restore import restore_package
from export_pipelines.pipeline.verify import verify_package
from export_pipelines_tests.workshop import TENANTS, Workshop, ClinicSource


def test_x(workshop: Workshop, database, clinic: ClinicSource) -> None:
    done = workshop.export({"export_type": "migration", "format": "csv", "parallel_jobs": 3})
    assert done.error_message is None
    folder = workshop.package(done)
    print((folder / "schema.sql").read_text())
    print((folder / "constraints.sql").read_text())
    print((folder / "load.sql").read_text())
    import json
    print(json.loads((folder / "manifest.json").read_text())["migration"]["left_out"])
    v = verify_package(folder, find_format)
    assert v.valid, v.problems
    url = database("restored")
    print(restore_package(folder, url, find_format))
    assert 0
