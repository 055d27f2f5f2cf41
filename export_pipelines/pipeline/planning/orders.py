"""What an order passes through before a run works on it, whoever brings it: the API, a command, a schedule.

```
Configuration → Order → PlannedOrder → EstimatedOrder → ExportRequest
   parsed      who asks    plan_order    estimate_order    insert_order
```

Each step takes what the one before made, so that nothing is parsed or planned twice. Who may ask at all, and how often,
is for the shell to say between the steps. A run plans again: it is another process at another time, and what counts is
the catalog and the rights of then.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from export_pipelines.archives.age_writing import recipients_of
from export_pipelines.core.access import Role
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import Configuration
from export_pipelines.core.estimating import Estimate
from export_pipelines.core.model import ExportPlan, RetainedStage, TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.core.ports import ObjectStore, Source
from export_pipelines.core.service_catalog import catalog_of
from export_pipelines.destinations.registry import Destinations, all_destinations
from export_pipelines.formats.registry import all_formats
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.extract.retained_stage import find_retained_stage, retained_origin
from export_pipelines.pipeline.lake.generations import at_point
from export_pipelines.pipeline.planning.estimate import grounds_of, planned_rows, weigh
from export_pipelines.stores.export_statistics import MeasureStore
from export_pipelines.stores.requests import ExportRequest, RequestStore


@dataclass(frozen=True, kw_only=True)
class Order:
    """A configuration on its way in, with who asks for it."""

    configuration: Configuration
    scope: TenantScope
    role: Role | None = None  # None: the host application or an operator, who may have every table
    requested_by: str | None = None

    @property
    def owner(self) -> str | None:
        """Whose exports alone it may convert; None: any of the tenant's."""
        return self.requested_by if self.role is Role.MEMBER else None


@dataclass(frozen=True, kw_only=True)
class PlannedOrder:
    """An order that planning accepts."""

    order: Order
    plan: ExportPlan  # of a request that does not exist yet, so its id and attempt mean nothing
    retained: RetainedStage | None = None  # what a conversion converts


@dataclass(frozen=True, kw_only=True)
class EstimatedOrder:
    """A planned order with what is expected of it."""

    planned: PlannedOrder
    estimate: Estimate | None = None  # None: nobody could tell, which an order does not wait for


def find_retained(order: Order, catalog: Catalog, requests: RequestStore, store: ObjectStore) -> RetainedStage | None:
    """The retained stage that a conversion names, None for any other order; refused as by `find_retained_stage`.

    It asks the object store, so call it outside of transactions.
    """
    origin = order.configuration.config.convert
    if origin is None:
        return None
    return find_retained_stage(str(origin), order.scope, catalog, requests, store, owner=order.owner)


def plan_order(
    order: Order,
    catalog: Catalog,
    *,
    retained: RetainedStage | None = None,
    destinations: Destinations | None = None,
    longest_keep: dt.timedelta | None = None,
) -> PlannedOrder:
    """By configuration and catalog alone: `RequestRejected` for all that can be refused before there is a request.

    A conversion needs what is ``retained`` of its export. ``destinations`` are those of the installation; without them,
    whether it knows a recipient is left to the run, and so is how long it keeps packages without ``longest_keep``.
    """
    config = order.configuration.config
    plan = plan_export(
        config,
        catalog_of(config.export_type, catalog),
        request_id="check",
        attempt=1,
        scope=order.scope,
        requested_at=dt.datetime.now(dt.UTC),
        formats=all_formats(),
        codecs=CODECS,
        destinations=all_destinations(),
        retained=retained,
        role=order.role,
        longest_keep=longest_keep,
    )
    recipients_of(plan.sealing.recipients if plan.sealing else ())
    if destinations is not None:
        destinations.require(plan.deliveries)
    return PlannedOrder(order=order, plan=plan, retained=retained)


def estimate_order(
    planned: PlannedOrder, catalog: Catalog, *, source: Source, measures: MeasureStore, store: ObjectStore
) -> Estimate:
    """`RequestRejected` for tables that are not safe to read, and for a point in time of which there is no snapshot."""
    grounds = grounds_of(planned.plan, measures, planned.retained)
    require_partitions(planned, catalog, store)
    rows = grounds.rows or planned_rows(planned.plan, source)
    return weigh(planned.plan, catalog, grounds, rows)


def require_partitions(planned: PlannedOrder, catalog: Catalog, store: ObjectStore) -> None:
    """`RequestRejected` when a backup of a point in time lacks a partition; a look at the object store."""
    if planned.plan.point_in_time is not None:
        at_point(planned.plan, planned.plan.point_in_time, catalog, store)


def insert_order(
    estimated: EstimatedOrder, requests: RequestStore, *, launched_by: str = "sensor", batch_id: str | None = None
) -> ExportRequest:
    """The new request. `NotFound` when what a conversion converts is gone since it was planned."""
    order = estimated.planned.order
    if estimated.planned.plan.converted_from is not None:
        retained_origin(str(order.configuration.config.convert), order.scope, requests, owner=order.owner)
    request_id = requests.insert(
        tenant_id=order.scope.tenant_id,
        config=order.configuration.written,
        requested_by=order.requested_by,
        requested_role=order.role,
        launched_by=launched_by,
        estimate=estimated.estimate,
        batch_id=batch_id,
    )
    return requests.get(request_id)
