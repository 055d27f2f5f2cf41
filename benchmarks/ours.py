"""The product as a contestant: which requests are measured, and the command that runs one in a fresh process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.datasets import Dataset
from benchmarks.measuring import Contestant

_PROGRAMS = "benchmarks.programs"
_TIMEOUT_SECONDS = 1_200.0  # ours are not stopped early: how long they take is the question


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a request asks for besides its table. A version that does not offer it refuses, and that is reported."""

    format: str
    compression: str = "none"
    encrypted: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        parts = [self.format, *([self.compression] if self.compression != "none" else []), *(["aes"] * self.encrypted)]
        return ".".join(parts)

    @property
    def label(self) -> str:
        with_ = "" if self.compression == "none" else f", {self.compression}"
        return f"{self.format}{with_}{', AES-256' if self.encrypted else ''}"

    def config(self, tables: Iterable[str]) -> str:
        """The JSON of the request."""
        request: dict[str, Any] = {"tables": list(tables), "format": self.format, "compression": self.compression}
        if self.options:
            request["options"] = self.options
        if self.encrypted:
            request["encryption"] = {"enabled": True, "method": "AES256", "password": "a benchmark's password"}
        return json.dumps(request)


FORMATS = ("csv", "ndjson", "json", "xml", "parquet")  # XLSX has a row limit and a suite of its own
CSV_GZ = Order(format="csv", compression="gzip")
PARQUET = Order(format="parquet")
ZIP, AES_ZIP = Order(format="csv", compression="zip"), Order(format="csv", compression="zip", encrypted=True)
PACKED = (CSV_GZ, Order(format="csv", compression="zstd"), ZIP, AES_ZIP)


def job(order: Order, dataset: Dataset, *extra: str, **settings: Any) -> Contestant:
    """The whole job, from the request to the published package."""
    return program(
        "job",
        order.config([dataset.table]),
        *extra,
        dataset=dataset,
        name=order.name,
        label=f"ours: {order.label}",
        **settings,
    )


def by_adbc(order: Order, dataset: Dataset) -> Contestant:
    """The same steps through the driver that every installation has; before there was another this changed nothing."""
    environment = {**dataset.environment, "EXPORT_DECODER": "adbc"}
    found = steps(order, replace(dataset, environment=environment))
    return replace(found, name=f"{found.name}.adbc", label=f"{found.label}, read through ADBC")


def steps(order: Order, dataset: Dataset, **settings: Any) -> Contestant:
    """The pipeline's functions only."""
    return program(
        "steps",
        order.config([dataset.table]),
        dataset=dataset,
        name=order.name,
        label=f"ours: {order.label}",
        **settings,
    )


def program(module: str, *arguments: str, dataset: Dataset, name: str, label: str, **settings: Any) -> Contestant:
    """A module of `programs` in a process of its own, on that dataset."""
    return Contestant(
        name=name,
        label=label,
        command=[sys.executable, "-m", f"{_PROGRAMS}.{module}", *arguments],
        environment=dataset.environment,
        timeout_seconds=_TIMEOUT_SECONDS,
        **settings,
    )
