"""Gives memory that nothing uses any more back to the system between steps.

Several allocators work in one run (the C library's, polars', DuckDB's), and each keeps what it once had; without this
the peak of a run is the sum of their peaks. How few they are is `export_pipelines.allocators`.
"""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa


def release_unused() -> None:
    """Cheap (milliseconds); does nothing where the C library is not glibc."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
