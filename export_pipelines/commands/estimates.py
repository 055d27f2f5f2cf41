"""``estimate``: what an export would be, without making one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any

from export_pipelines.commands import output
from export_pipelines.commands.ordering import (
    Aggregates,
    AsJson,
    Compression,
    Email,
    Encrypt,
    Fields,
    Filters,
    Format,
    From,
    IncludeDeleted,
    ManyFiles,
    MaxSize,
    Modules,
    Options,
    Recipients,
    Split,
    Tables,
    Tenant,
    Title,
    To,
    export_order,
    require_tenant_id,
)
from export_pipelines.core.estimating import Estimate, TableEstimate
from export_pipelines.core.model import TenantScope
from export_pipelines.embedded.workplace import Workplace, prepared
from export_pipelines.packaging.omissions import account, notable
from export_pipelines.pipeline.assembly import open_catalog, open_object_store, open_source
from export_pipelines.pipeline.extract.retained_stage import find_retained_stage
from export_pipelines.pipeline.planning.estimate import estimate_export
from export_pipelines.settings import load_settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.export_statistics import MeasureStore
from export_pipelines.stores.requests import RequestStore


def estimate(
    tenant: Tenant,
    format_: Format,
    tables: Tables = "",
    module: Modules = None,
    from_: From = None,
    to: To = None,
    fields: Fields = None,
    filter_: Filters = None,
    aggregate: Aggregates = None,
    compression: Compression = "none",
    split: Split = None,
    max_size_mb: MaxSize = None,
    many_files: ManyFiles = False,
    encrypt: Encrypt = None,
    recipient: Recipients = None,
    option: Options = None,
    name: Title = "",
    email: Email = None,
    include_deleted: IncludeDeleted = False,
    as_json: AsJson = False,
) -> None:
    """What `export` with these options would be: rows, size, time, personal data. Nothing is exported.

    Rows that would be left out are counted where that takes milliseconds, else they are the planner's estimate.
    """
    with output.reported(as_json=as_json):
        # Which password it will be does not matter here, so none is asked for.
        password = {} if recipient else {"password": {"sealed": True}}
        config = export_order(
            tables=tables,
            modules=module,
            format_=format_,
            dates=(from_, to),
            fields=fields,
            filters=filter_,
            aggregates=aggregate,
            compression=compression,
            split=split,
            max_size_mb=max_size_mb,
            many_files=many_files,
            encryption={"method": encrypt, "recipients": recipient or [], **password} if encrypt else None,
            option=option,
            name=name,
            email=email,
            include_deleted=include_deleted,
        )
        require_tenant_id(tenant)
        with prepared(load_settings()) as workplace:
            found = estimated(config, tenant, workplace)
        if as_json:
            answer = {name: value for name, value in asdict(found).items() if name != "omissions"}
            output.say_json({**answer, "left_out": account(found.omissions)})
        else:
            _tell(found)


def estimated(config: dict[str, Any], tenant: str, workplace: Workplace) -> Estimate:
    """What the order would be; refuses what its plan would refuse."""
    settings = workplace.settings
    scope, catalog = TenantScope(tenant_id=tenant), open_catalog(settings)
    with closing(ControlDatabase(settings.require_control_url())) as control:
        return estimate_export(
            config,
            scope,
            catalog,
            source=open_source(settings.require_source_url(), catalog, settings.decoder),
            measures=MeasureStore(control),
            retained=lambda origin: find_retained_stage(
                origin, scope, catalog, RequestStore(control), open_object_store(settings)
            ),
        )


def _tell(found: Estimate) -> None:
    for table in found.tables:
        output.say(f"  {table.table:44} {table.rows:>12,} rows  {output.size(table.size_bytes):>9}  {_ground(table)}")
    for line in notable(found.omissions):
        output.say(f"  {line}")
    files = "" if found.files is None else f" in {found.files:,} file{'s' if found.files != 1 else ''}"
    output.say(f"about {found.rows:,} rows{files}, {output.size(found.size_bytes)}, {found.seconds:.1f} s once it runs")
    classes = ", ".join(f"{count} {name}" for name, count in found.classes.items())
    output.say(f"columns: {classes or 'none'}")
    if found.recipients:
        output.say(f"mail to {', '.join(found.recipients)}")
    if found.past_error is not None:
        past = found.past_error
        output.say(
            f"estimates were off by {past.rows:.0%} in rows, {past.size_bytes:.0%} in size, {past.seconds:.0%} in time "
            f"(median of {past.exports} exports{'' if past.own else ' of everybody'})"
        )


def _ground(table: TableEstimate) -> str:
    exports = f", {table.past_exports} exports" if table.past_exports else ""
    return f"{table.basis}{exports}{'' if table.analysed else ', never analysed: run ANALYZE'}"
