"""From an untrusted configuration and a catalog to an `ExportPlan`.

Rules about user input are here and in the modules of its parts: `selecting`, `filtering`, `packing`, `notifying`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from export_pipelines.core.access import Role
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import ExportConfig, Retention
from export_pipelines.core.destinations import DestinationSpec
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import ExportPlan, RetainedStage, TenantScope
from export_pipelines.core.notifying import check_line, deliveries_of
from export_pipelines.core.packing import choose_compression, sealing_of, split_of
from export_pipelines.core.ports import FormatSpec
from export_pipelines.core.rejection import rejected
from export_pipelines.core.selecting import Chosen, require_role, selections_of, withheld_from
from export_pipelines.core.suggestions import closest, did_you_mean
from export_pipelines.core.windows import in_utc

ANONYMIZE = "anonymize"
_UNNAMED = {
    "selective": "Data export",
    "full_backup": "Full backup",
    "migration": "Migration",
    "audit": "Audit package",
}
LOADABLE = ("csv", "parquet")  # formats of a migration


def plan_export(
    config: ExportConfig,
    catalog: Catalog,
    *,
    request_id: str,
    attempt: int,
    scope: TenantScope,
    requested_at: dt.datetime,
    formats: Mapping[str, FormatSpec],
    codecs: Collection[str],
    destinations: Mapping[str, DestinationSpec] = MappingProxyType({}),
    retained: RetainedStage | None = None,
    role: Role | None = None,
    longest_keep: dt.timedelta | None = None,
) -> ExportPlan:
    """A plan, or `RequestRejected` naming the field, the value's problem and the choices.

    ``retained`` is what a conversion converts; its tables, columns and rows are given. ``role`` is the requester's;
    none is the host application or an operator at the command line, who may have every table. ``longest_keep`` is how
    long this installation keeps packages; None leaves it to the run to refuse more.
    """
    check_line(config.name, "name")
    spec = choose_format(config.format, formats)
    chosen = Chosen(selections=retained.selections) if retained else selections_of(config, catalog, role)
    selections = chosen.selections
    require_role(role, selections, catalog)
    sealing = sealing_of(config.encryption)
    options = format_options(spec, config.options, formats)
    if config.export_type == "migration":
        require_loadable(spec, options)
    return ExportPlan(
        request_id=request_id,
        attempt=attempt,
        scope=scope,
        catalog=catalog.name,
        export_type=config.export_type,
        name=title_of(config),
        selections=selections,
        format=spec.name,
        format_options=options,
        compression=choose_compression(config.compression, spec, codecs),
        split=split_of(config.split_files, selections, catalog),
        sealing=sealing,
        requested_at=requested_at,
        deliveries=deliveries_of(config.delivery, destinations, selections, catalog, sealed=sealing is not None),
        keep=_keep(config.retention, longest_keep),
        converted_from=retained.request_id if retained else None,
        parallel_jobs=config.parallel_jobs or 1,
        point_in_time=_point_in_time(config.point_in_time, catalog, requested_at),
        withheld=withheld_from(role, catalog),
        left_out=chosen.left_out,
    )


def title_of(config: ExportConfig) -> str:
    """What an export is called in answers, packages and file names."""
    unnamed = "Converted export" if config.convert is not None else _UNNAMED[config.export_type]
    return config.name or unnamed


def require_loadable(spec: FormatSpec, options: Mapping[str, Any]) -> None:
    """`RequestRejected` for files that a database does not take as they are."""
    if spec.name not in LOADABLE:
        raise RequestRejected(
            f"{spec.name!r} cannot be loaded into a database; choose from {', '.join(LOADABLE)}", field="format"
        )
    if options.get("csv_profile", "rfc4180") != "rfc4180":
        raise RequestRejected("disarms formulas, which a database would keep; use rfc4180", field="options.csv_profile")


def choose_format(name: str, formats: Mapping[str, FormatSpec]) -> FormatSpec:
    """The format of that name or alias."""
    wanted = name.strip().lower()
    by_name = {known: spec for spec in formats.values() for known in (spec.name, *spec.aliases)}
    if wanted in by_name:
        return by_name[wanted]
    meant = closest(name, by_name)
    hint = f"; did you mean {by_name[meant].name!r}?" if meant else ""
    raise RequestRejected(f"{name!r} is not a format; choose from {', '.join(formats)}{hint}", field="format")


def format_options(spec: FormatSpec, options: Mapping[str, Any], formats: Mapping[str, FormatSpec]) -> dict[str, Any]:
    """The format's own options, checked by its model; those of other formats are allowed and have no effect."""
    known = {name: other for other in formats.values() if other.options for name in other.options.model_fields}
    if options.get(ANONYMIZE) is not None:
        raise RequestRejected(
            "is not available yet; leave it out or null, and leave personal columns out by fields",
            field=f"options.{ANONYMIZE}",
        )
    for name in options:
        if name not in known and name != ANONYMIZE:
            raise RequestRejected(
                f"there is no option {name!r}; choose from {', '.join(known)}{did_you_mean(name, known)}",
                field="options",
            )
    if spec.options is None:
        return {}
    own = {name: value for name, value in options.items() if name in spec.options.model_fields}
    try:
        return spec.options.model_validate(own).model_dump(exclude_defaults=True)
    except ValidationError as error:
        raise rejected(error, model=spec.options, within="options") from error


def _keep(wanted: Retention | None, longest: dt.timedelta | None) -> dt.timedelta | None:
    """Refused where it would be shortened: whoever counts on the days would find the package gone."""
    if wanted is None or wanted.keep_exports_days is None or not wanted.auto_cleanup:
        return None
    most = longest / dt.timedelta(days=1) if longest else wanted.keep_exports_days
    if wanted.keep_exports_days > most:
        raise RequestRejected(
            f"{wanted.keep_exports_days:g} days are longer than packages are kept here; ask for up to {most:g} days, "
            "or leave it out for as long as possible",
            field="retention.keep_exports_days",
        )
    return dt.timedelta(days=wanted.keep_exports_days)


def _point_in_time(wanted: dt.datetime | None, catalog: Catalog, requested_at: dt.datetime) -> dt.datetime | None:
    """Of the future nobody has a snapshot, and the newest one is not what it will be like."""
    if wanted is None:
        return None
    found = in_utc(wanted, timezone=catalog.timezone, field="point_in_time")
    if found > requested_at:
        raise RequestRejected(
            f"{found.isoformat()} lies in the future; name a time up to {requested_at.isoformat(timespec='seconds')}, "
            "or leave it out for the rows of now",
            field="point_in_time",
        )
    return found
