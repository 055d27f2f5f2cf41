"""Which of the two ways runs start: as copies of a warm process, or Dagster's own, as new interpreters.

`up` decides by it which code server it starts, and the code server itself obeys it where somebody else starts it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

RunLauncher = Literal["warm", "dagster"]
_PRIVATE_SOCKET = (3, 11, 1)  # before, every user of the machine could talk to a fork server (CVE-2022-42919)


@dataclass(frozen=True, kw_only=True)
class ChosenLauncher:
    """How runs start here. As text, what `up` prints."""

    name: RunLauncher
    reason: str = ""  # why runs do not start warm

    def __str__(self) -> str:
        return "copies of a warm process" if self.name == "warm" else f"new interpreters ({self.reason})"


def choose_run_launcher(
    asked: RunLauncher, *, platform: str = sys.platform, python: tuple[int, int, int] = sys.version_info[:3]
) -> ChosenLauncher:
    """What was asked for where it can be had, and Dagster's own elsewhere, with the reason."""
    if asked == "dagster":
        return ChosenLauncher(name="dagster", reason="EXPORT_RUN_LAUNCHER=dagster")
    if platform != "linux":
        return ChosenLauncher(name="dagster", reason=f"copies of a warm process need Linux, and this is {platform}")
    if python < _PRIVATE_SOCKET:
        found = ".".join(map(str, python))
        return ChosenLauncher(
            name="dagster", reason=f"copies of a warm process need Python 3.11.1 or newer, and this is {found}"
        )
    return ChosenLauncher(name="warm")
