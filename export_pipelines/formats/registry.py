"""Finds the formats of this package."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from export_pipelines import formats
from export_pipelines.core.planning import choose_format
from export_pipelines.core.ports import FormatSpec


@cache
def all_formats() -> dict[str, FormatSpec]:
    """Every format by name, sorted. A module whose spec has another name than its file is refused."""
    found: dict[str, FormatSpec] = {}
    for module in sorted(pkgutil.iter_modules(formats.__path__), key=lambda m: m.name):
        spec = getattr(importlib.import_module(f"{formats.__name__}.{module.name}"), "SPEC", None)
        if spec is None:
            continue
        if spec.name != module.name:
            raise TypeError(f"formats/{module.name}.py declares the format {spec.name!r}; the two names must agree")
        found[spec.name] = spec
    return found


def find_format(name: str) -> FormatSpec:
    """The format of that name or alias; `RequestRejected` names the choices."""
    return choose_format(name, all_formats())
