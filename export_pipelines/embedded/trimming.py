"""Keeps the logs of a service that runs for months from filling the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LIMIT_BYTES = 50 * 1024 * 1024


def trim_logs(logs: Iterable[Path], *, limit_bytes: int = LIMIT_BYTES) -> list[Path]:
    """Copy each log beyond the limit to ``<name>.1``, in place of an older one, and empty it; those that were.

    Whoever writes keeps the file open and appends, so what follows is at its beginning. What is written between the
    copy and the emptying, a few lines at most, is lost.
    """
    trimmed = []
    for log in logs:
        with suppress(FileNotFoundError):
            if log.stat().st_size > limit_bytes:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                os.truncate(log, 0)
                trimmed.append(log)
    return trimmed
