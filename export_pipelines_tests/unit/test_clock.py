"""Which time counts for schedules when somebody sets the clock."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from export_pipelines.core.clock import CONFIRMED_AFTER_SECONDS, STEP_SECONDS, Judged, Reading, Step, Timeline, judge

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def looks(*readings: tuple[float, float], last: Timeline | None = None) -> list[Judged]:
    """What each reading of (seconds since boot, wall clock in seconds after noon) finds."""
    found = []
    for boot_seconds, wall in readings:
        reading = Reading(database_at=NOON + dt.timedelta(seconds=wall), boot_id="a", boot_seconds=boot_seconds)
        judged = judge(last, reading)
        found.append(judged)
        last = judged.timeline
    return found


def reported(found: list[Judged]) -> list[tuple[Step, float]]:
    return [(each.step, (each.timeline.at - NOON).total_seconds()) for each in found]


def test_a_clock_that_runs_is_believed() -> None:
    assert reported(looks((100, 0), (105, 5), (3705, 3605))) == [(Step.NONE, 0), (Step.NONE, 5), (Step.NONE, 3605)]


def test_a_clock_that_drifts_slowly_is_believed_however_far_it_comes() -> None:
    found = looks(*((100 + 60 * n, 61 * n) for n in range(100)))
    assert {each.step for each in found} == {Step.NONE}
    assert reported(found)[-1] == (Step.NONE, 99 * 61)


def test_time_goes_on_from_before_a_step_forward_until_it_is_taken_back() -> None:
    found = looks((100, 0), (105, 605), (110, 610), (115, 15), (120, 20))
    assert reported(found) == [(Step.NONE, 0), (Step.AHEAD, 5), (Step.NONE, 10), (Step.TAKEN_BACK, 15), (Step.NONE, 20)]
    assert [each.steady for each in found] == [True, False, False, True, True]
    assert found[1].step_seconds == 600


def test_a_step_forward_that_stays_is_believed_after_a_while() -> None:
    end = 105 + CONFIRMED_AFTER_SECONDS
    found = looks((100, 0), (105, 605), (end - 1, 500 + end - 1), (end, 500 + end), (end + 5, 505 + end))
    assert [each.step for each in found] == [Step.NONE, Step.AHEAD, Step.NONE, Step.CONFIRMED, Step.NONE]
    assert reported(found)[2][1] == end - 1 - 100
    assert reported(found)[4][1] == 505 + end


def test_a_step_back_is_believed_at_once() -> None:
    assert reported(looks((100, 700), (105, 5), (110, 10))) == [(Step.NONE, 700), (Step.BACK, 5), (Step.NONE, 10)]


def test_a_step_further_back_than_forward_is_believed_at_once() -> None:
    found = looks((100, 0), (105, 605), (110, -900), (115, -895))
    assert [each.step for each in found] == [Step.NONE, Step.AHEAD, Step.BACK, Step.NONE]
    assert reported(found)[3][1] == -895


@pytest.mark.parametrize("sign", [1, -1])
def test_what_ntp_corrects_by_itself_is_no_step(sign: int) -> None:
    assert {each.step for each in looks((100, 0), (105, 5 + sign * STEP_SECONDS))} == {Step.NONE}
    assert looks((100, 0), (105, 5 + sign * (STEP_SECONDS + 1)))[1].step is not Step.NONE


@pytest.mark.parametrize(
    "other", [{"boot_id": "b"}, {"boot_seconds": 5000.0}], ids=["another boot", "a count that began anew"]
)
def test_nothing_is_held_against_another_boot(other: dict[str, object]) -> None:
    last = dataclasses.replace(looks((100, 0))[0].timeline, **other)  # type: ignore[arg-type]
    assert reported(looks((200, 86_400), last=last)) == [(Step.NONE, 86_400)]
