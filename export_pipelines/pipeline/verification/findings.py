"""What a check of a package looked at, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from export_pipelines.core.errors import ExportError, RequestRejected
from export_pipelines.core.signing import SignatureStatus, SignatureVerdict

_UNSIGNED = SignatureVerdict(status=SignatureStatus.MISSING)


class Depth(StrEnum):
    """How closely to look; each looks at what those before it do."""

    CHECKSUM = "checksum"  # every byte
    SCHEMA = "schema"  # that each file can be read and has the columns it should
    FULL = "full"  # every row, against the database's own counts and totals


class Check(StrEnum):
    """What a problem is a problem of."""

    BYTES = "bytes"
    SCHEMA = "schema"
    ROWS = "rows"  # their number
    VALUES = "values"  # the totals of their columns
    OMISSIONS = "omissions"  # that the manifest states what was left out, and agrees with itself on it


@dataclass(kw_only=True)
class Verification:
    """What was checked and what is wrong; no problem means the package is what it says.

    Who says so is ``signature``: it is `trusted` only where keys were given and one of them signed.
    """

    export_id: str
    files: int = 0
    rows: int = 0
    opened: bool = True  # False: encrypted, and only what lies outside was looked at
    problems: list[str] = field(default_factory=list)
    checks: dict[Check, bool] = field(default_factory=dict)  # without those that were not made
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # first rows of each table, as JSON
    signature: SignatureVerdict = _UNSIGNED

    @property
    def valid(self) -> bool:
        return not self.problems

    def looked_at(self, *checks: Check) -> None:
        for check in checks:
            self.checks.setdefault(check, True)

    def fail(self, check: Check, *problems: str) -> None:
        """Problems of one check, if there are any."""
        self.problems += problems
        if problems:
            self.checks[check] = False


def words_of(error: ExportError, *places: object) -> str:
    """What an error says, without the folders in which things lay for the time of the check."""
    message = error.message if isinstance(error, RequestRejected) else str(error)
    for place in places:
        message = message.replace(f"{place}/", "")
    return message
