"""What is told of a total that turns out another than it was estimated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from export_pipelines.api.payloads import note_on_total, total_is_estimated
from export_pipelines.core.status import RequestStatus


def request(status: RequestStatus, percentage: float, expected: int | None, total: int | None) -> Any:
    return SimpleNamespace(status=status, percentage=percentage, estimated_rows=expected, total_rows=total)


@pytest.mark.parametrize(
    ("given", "estimated", "note"),
    [
        (request(RequestStatus.QUEUED, 0, 1000, 1000), True, None),
        (request(RequestStatus.PROCESSING, 20, 1000, 1000), True, None),
        (
            request(RequestStatus.PROCESSING, 44.9, 1000, 1500),
            True,
            "There are more rows than the 1,000 that were estimated; total_rows grows until all are read.",
        ),
        (request(RequestStatus.PROCESSING, 45, 1000, 1500), False, "1,000 rows were estimated."),
        (request(RequestStatus.COMPLETED, 100, 1000, 900), False, "1,000 rows were estimated."),
        (request(RequestStatus.COMPLETED, 100, 1000, 1000), False, None),
        (request(RequestStatus.QUEUED, 0, None, None), True, None),
    ],
)
def test_a_total_never_changes_without_a_word(given: Any, estimated: bool, note: str | None) -> None:
    assert (total_is_estimated(given), note_on_total(given)) == (estimated, note)
