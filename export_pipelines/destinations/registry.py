"""Finds the destinations of this package, and opens them with the operator's settings."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from export_pipelines import destinations
from export_pipelines.core.destinations import Destination, DestinationSpec
from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.core.model import PlannedDelivery
from export_pipelines.settings import Settings


@cache
def all_destinations() -> dict[str, DestinationSpec]:
    """Every kind of destination by name, sorted. A module whose spec has another name than its file is refused."""
    found: dict[str, DestinationSpec] = {}
    for module in sorted(pkgutil.iter_modules(destinations.__path__), key=lambda m: m.name):
        spec = getattr(importlib.import_module(f"{destinations.__name__}.{module.name}"), "SPEC", None)
        if spec is None:
            continue
        if spec.name != module.name:
            raise TypeError(
                f"destinations/{module.name}.py declares the destination {spec.name!r}; the two names must agree"
            )
        unknown = spec.operator.model_fields.keys() - Settings.model_fields.keys()
        if unknown:
            raise TypeError(f"destinations/{module.name}.py: there is no setting {', '.join(sorted(unknown))}")
        found[spec.name] = spec
    return found


def find_destination(name: str) -> DestinationSpec:
    """The kind of that name; `RequestRejected` names the choices."""
    try:
        return all_destinations()[name]
    except KeyError as error:
        known = ", ".join(all_destinations())
        raise RequestRejected(f"{name!r} is not a way to deliver; choose from {known}", field="method") from error


@dataclass(frozen=True)
class Destinations:
    """The destinations of one installation."""

    opened: Callable[[DestinationSpec], Destination]  # `Unavailable` names the setting that is missing

    def open(self, name: str) -> Destination:
        """Ready to deliver; `RequestRejected` for an unknown kind, `Unavailable` where a setting is missing."""
        return self.opened(find_destination(name))

    def configured(self, name: str) -> bool:
        """Whether the operator's settings are enough to deliver."""
        try:
            self.open(name)
        except Unavailable:
            return False
        return True

    def require(self, deliveries: Iterable[PlannedDelivery]) -> None:
        """`RequestRejected` for a recipient that the settings do not know."""
        for delivery in deliveries:
            if self.configured(delivery.method):
                self.open(delivery.method).require(delivery.recipient)
            elif find_destination(delivery.method).must_be_set_up:
                raise RequestRejected(
                    f"{delivery.method!r} is not set up in this service; ask its operators, or deliver another way",
                    field="delivery.method",
                )


def open_destinations(settings: Settings) -> Destinations:
    """What the settings make of every kind."""
    return destinations_of({name: getattr(settings, name) for name in Settings.model_fields})


def destinations_of(values: Mapping[str, Any]) -> Destinations:
    """The same, from the values of the fields that the kinds name as theirs."""

    def opened(spec: DestinationSpec) -> Destination:
        if spec.open is None:
            raise RequestRejected("needs no delivery", field=f"delivery.{spec.name}")
        own = {name: values[name] for name in spec.operator.model_fields if values.get(name) is not None}
        return spec.open(spec.operator.model_validate(own))

    return Destinations(opened)
