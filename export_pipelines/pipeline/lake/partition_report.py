"""What a run says of a partition: of its tenant's part in the lake, or of those of all tenants in a bucket together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from export_pipelines.pipeline.lake.materialize import LakePartition
from export_pipelines.pipeline.lake.partition_checks import CheckOutcome, Preview


@dataclass(kw_only=True)
class CheckTally:
    """One check over many parts."""

    parts: int = 0
    failed: int = 0
    key: str = ""  # of the first part that failed, else of the first
    detail: str = ""  # what the check said of that one

    def add(self, key: str, outcome: CheckOutcome) -> None:
        """Count one more part."""
        if self.parts == 0 or (self.failed == 0 and not outcome.passed):
            self.key, self.detail = key, outcome.detail
        self.parts += 1
        self.failed += not outcome.passed


@dataclass(kw_only=True)
class PartitionReport:
    """Sums over the parts of a partition; memory does not grow with their number."""

    tenants: int  # so many parts make it whole
    parts: int = 0
    already_present: int = 0  # of those, how many were in the lake already
    failed: int = 0
    rows: int = 0
    size_bytes: int = 0
    oldest: LakePartition | None = None  # by its snapshot
    preview: Preview = field(default_factory=Preview)  # of the first part with rows
    checks: dict[str, CheckTally] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the lake holds all of it now."""
        return self.parts == self.tenants and not self.failed

    def add(self, part: LakePartition) -> None:
        """Count one more part."""
        self.parts += 1
        self.already_present += part.already_present
        self.failed += not part.valid
        self.rows += part.rows
        self.size_bytes += part.size_bytes
        if self.oldest is None or part.snapshot.taken_at < self.oldest.snapshot.taken_at:
            self.oldest = part
        if not self.preview.rows:
            self.preview = part.preview
        for outcome in part.outcomes:
            self.checks.setdefault(outcome.name, CheckTally()).add(part.key, outcome)

    @property
    def taken_at(self) -> dt.datetime | None:
        """When the oldest of its snapshots was taken."""
        return self.oldest.snapshot.taken_at if self.oldest else None


def tally_of(check: str, reports: Iterable[PartitionReport]) -> CheckTally:
    """One check over all partitions of a run; what is shown is the first failure, or else the first part."""
    total = CheckTally()
    for tally in (report.checks[check] for report in reports if check in report.checks):
        if total.parts == 0 or (total.failed == 0 and tally.failed):
            total.key, total.detail = tally.key, tally.detail
        total.parts += tally.parts
        total.failed += tally.failed
    return total
