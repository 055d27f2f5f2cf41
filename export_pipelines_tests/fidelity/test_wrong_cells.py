"""A cell that is wrong in the last digit its file has, and no spreadsheet would show, keeps an export from its end."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from export_pipelines.core.configuration import Configuration
from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.model import TenantScope
from export_pipelines.pipeline.extract.stage import stage_tables
from export_pipelines.pipeline.planning.orders import Order, plan_order
from export_pipelines.pipeline.progress import Unwatched
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.write.convert import convert_tables
from export_pipelines_tests.workshop import TENANTS, Workshop

SHEET = "xl/worksheets/sheet1.xml"


def _microsecond_later(serial: str) -> str:
    days, _, fraction = serial.partition(".")
    return f"{days}.{int(fraction) + 12:012}"


def _last_digit(number: str) -> str:
    return number[:-1] + str((int(number[-1]) + 1) % 10)


def forge(path: Path, column: str, change: Callable[[str], str]) -> None:
    """Change the first number cell of a column."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    xml = parts[SHEET].decode()
    (letter,) = re.findall(rf'<c r="([A-Z]+)1"[^>]*><is><t[^>]*>{re.escape(column)}</t>', xml)
    cell = re.compile(rf'(<c r="{letter}[0-9]+"(?: s="[0-9]+")?><v>)([^<]+)(</v>)')
    forged, count = cell.subn(lambda match: match[1] + change(match[2]) + match[3], xml, count=1)
    assert count == 1
    assert forged != xml
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, forged.encode() if name == SHEET else content)


@pytest.mark.parametrize(
    ("source", "column", "change"),
    [
        ({"type": "invoices"}, "created_at (UTC)", _microsecond_later),
        ({"type": "invoices"}, "total", _last_digit),
        (
            {"type": "invoices", "aggregation": "monthly", "fields": ["currency", "average_total"]},
            "average_total",
            _last_digit,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_cell_that_is_wrong_in_its_last_digit_is_found(
    workshop: Workshop, source: dict[str, object], column: str, change: Callable[[str], str]
) -> None:
    services = workshop.services
    config = {"data_sources": [source], "format": "xlsx"}
    order = Order(configuration=Configuration.of(config), scope=TenantScope(tenant_id=TENANTS[0]))
    plan = plan_order(order, workshop.catalog).plan
    stage = stage_tables(plan, services, Unwatched())
    files = convert_tables(plan, stage, services, Unwatched())
    assert all(verdict.valid for verdict in validate_files(plan, stage, files, services, Unwatched()))
    with services.store.local(files[0].key) as path:
        forge(path, column, change)
    with pytest.raises(IntegrityViolation, match="differ from the source"):
        validate_files(plan, stage, files, services, Unwatched())
