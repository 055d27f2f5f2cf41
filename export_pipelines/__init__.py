"""Export Pipelines: verified, tenant-isolated data exports from PostgreSQL.

`read` opens a package for whoever gets one; it loads no service, no driver and no Dagster (`export_pipelines.reader`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected, Unavailable
    from export_pipelines.reader import Column, Package, Table, read

__all__ = [
    "Column",
    "ExportError",
    "IntegrityViolation",
    "Package",
    "RequestRejected",
    "Table",
    "Unavailable",
    "read",
]
_ERRORS = ("ExportError", "IntegrityViolation", "RequestRejected", "Unavailable")


def __getattr__(name: str) -> Any:
    """The reader is loaded when it is first asked for: every command and run imports this package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.core.errors" if name in _ERRORS else f"{__name__}.reader"), name)
