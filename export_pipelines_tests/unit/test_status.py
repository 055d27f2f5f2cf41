"""The table of transitions itself; that the database holds the same is an integration test."""

from __future__ import annotations

import pytest

from export_pipelines.core.status import REQUEST_TRANSITIONS, TERMINAL, RequestStatus, may_become


def reachable(start: RequestStatus) -> set[RequestStatus]:
    found = {start}
    while more := {new for old in found for new in REQUEST_TRANSITIONS[old]} - found:
        found |= more
    return found


def test_every_status_can_be_reached_from_the_first() -> None:
    assert reachable(RequestStatus.QUEUED) == set(RequestStatus)


@pytest.mark.parametrize("status", RequestStatus)
def test_no_status_becomes_itself(status: RequestStatus) -> None:
    assert not may_become(status, status)


@pytest.mark.parametrize("status", RequestStatus)
def test_only_a_run_completes_a_request(status: RequestStatus) -> None:
    assert may_become(status, RequestStatus.COMPLETED) == (status is RequestStatus.PROCESSING)


def test_what_is_public_is_never_exported_again() -> None:
    assert reachable(RequestStatus.COMPLETED) == {RequestStatus.COMPLETED, RequestStatus.EXPIRED}


@pytest.mark.parametrize("status", RequestStatus)
def test_work_goes_on_in_exactly_the_statuses_that_are_not_terminal(status: RequestStatus) -> None:
    assert (status in TERMINAL) != may_become(status, RequestStatus.CANCELLED)
