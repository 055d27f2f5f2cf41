"""Whether the decoder can work here, and where in memory it finds libpq's functions.

A connection made by one copy of libpq must be read by the same copy. psycopg brings its own; asking the loader for
symbols through psycopg's extension module finds just that one, whichever others the process has loaded.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from functools import cache

import psycopg

_EXTENSION = "export_pipelines.sources.copy_decoder._decoder"
_FUNCTIONS = ("PQgetCopyData", "PQconsumeInput", "PQsocket", "PQfreemem")


@cache
def availability() -> str | None:
    """None where the decoder works, else why it does not."""
    if importlib.util.find_spec(_EXTENSION) is None:
        return "it was not built: install a C compiler and Python's headers, then install this package again"
    try:
        importlib.import_module(_EXTENSION)
    except ImportError as error:
        return f"it was built for another Python: {error}"
    try:
        functions()
    except (AttributeError, OSError, KeyError):
        return f"psycopg's implementation {psycopg.pq.__impl__!r} does not show its libpq; install psycopg[binary]"
    return None


@cache
def functions() -> tuple[int, int, int, int]:
    """Addresses of the functions that `_decoder.Decoder.receive` calls."""
    implementation = sys.modules[psycopg.pq.PGconn.__module__]
    library = ctypes.CDLL(str(implementation.__file__))
    get, consume, socket, free = (
        ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in _FUNCTIONS
    )
    return get, consume, socket, free
