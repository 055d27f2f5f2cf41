"""What is measured: how many tenants, months and tables, and how the tenants are partitioned."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from export_pipelines.core.catalog import Catalog, Grain, Partition
from export_pipelines.samples.loader import sample_catalog_path

TENANT_TABLE = "clinics"  # one row a tenant: not cut by time
LONE_TABLE = "appointments"  # the one that is cut by month where only one is


@dataclass(frozen=True, kw_only=True)
class Case:
    """One catalog and as many materialized partitions as it has."""

    name: str
    label: str
    tenants: int
    buckets: int | None = None
    months: int = 60  # the one that is still open included
    one_table: bool = False
    launches: bool = True  # whether ticks that launch a run for each owner are measured

    def fraction(self, share: float) -> Self:
        """The same with fewer tenants and buckets, for a trial."""
        buckets = None if self.buckets is None else max(1, round(self.buckets * share))
        return dataclasses.replace(self, tenants=max(3, round(self.tenants * share)), buckets=buckets)

    def with_months(self, months: int) -> Self:
        return dataclasses.replace(self, months=months)

    def catalog(self, sample: Catalog, today: dt.date) -> Catalog:
        """The sample's, its tables cut by month, with a history of exactly so many months."""
        tables = {
            name: table.model_copy(update={"partition": self._partition(name)}) for name, table in sample.tables.items()
        }
        start = _months_before(today, self.months - 1)
        return sample.model_copy(update={"tables": tables, "history_start": start, "tenant_buckets": self.buckets})

    def _partition(self, table: str) -> Partition:
        if table == TENANT_TABLE or (self.one_table and table != LONE_TABLE):
            return Partition(grain=Grain.NONE)
        return Partition(grain=Grain.MONTH, column="created_at")


CASES = (
    Case(name="tenants", label="1,000 tenants", tenants=1_000),
    Case(name="buckets", label="10,000 tenants in 128 buckets", tenants=10_000, buckets=128),
    Case(name="unbucketed", label="10,000 tenants, one table", tenants=10_000, one_table=True, launches=False),
)


def cases(names: Sequence[str], *, share: float, months: int) -> list[Case]:
    """Those of the names, smaller if asked for."""
    found = [case.with_months(months) for case in CASES if case.name in names]
    return found if share == 1 else [case.fraction(share) for case in found]


def sample_catalog() -> Catalog:
    from export_pipelines.catalog.load import load_catalog

    return load_catalog(sample_catalog_path("clinic"))


def _months_before(day: dt.date, months: int) -> dt.date:
    index = day.year * 12 + day.month - 1 - months
    return dt.date(index // 12, index % 12 + 1, 1)
