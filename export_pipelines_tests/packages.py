"""The steps of exports without Dagster and requests: ``python -m export_pipelines_tests.packages ORDER.json``.

For tests that need the same requests on the same snapshot in another process.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from pathlib import Path

from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.model import SharedSnapshot, SnapshotInfo, TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.extract.stage import stage_tables
from export_pipelines.pipeline.publish.package import assemble_package
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.write.convert import convert_tables
from export_pipelines.settings import load_settings

REQUESTED_AT = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


class Silent:
    """A progress that nobody looks at."""

    def advance(self, *, table: str, rows: int) -> None:
        del table, rows

    def expect(self, rows: int) -> None:
        del rows

    def file_created(self) -> None:
        pass


def make_package(
    services: ExportServices, tenant: str, request_id: str, config: dict[str, object], join: SharedSnapshot
) -> list[str]:
    """Stage to package; the keys of its files."""
    plan = plan_export(
        parse_configuration(config),
        services.catalog,
        request_id=request_id,
        attempt=1,
        scope=TenantScope(tenant_id=tenant),
        requested_at=REQUESTED_AT,
        formats=services.formats(),
        codecs=CODECS,
    )
    stage = stage_tables(plan, services, Silent(), join=join)
    files = convert_tables(plan, stage, services, Silent())
    verdicts = validate_files(plan, stage, files, services, Silent())
    return [file.key for file in assemble_package(plan, stage, files, verdicts, services).files]


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    os.umask(order["umask"])
    info = SnapshotInfo(**{**order["info"], "taken_at": dt.datetime.fromisoformat(order["info"]["taken_at"])})
    join = SharedSnapshot(exported_id=order["exported_id"], info=info)
    with open_services(load_settings()) as services:
        made = {
            request_id: make_package(services, order["tenant"], request_id, config, join)
            for request_id, config in order["requests"].items()
        }
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
