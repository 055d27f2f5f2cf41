"""Items made ahead and calls made behind: order, errors, and an end when nobody wants more."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.pipeline.overlap import ahead, behind


class Broken(Exception):
    """What a maker or a call may raise."""


@given(st.lists(st.integers()))
def test_the_same_items_come_in_the_same_order(items: list[int]) -> None:
    assert list(ahead(items)) == items


def test_an_item_is_made_while_its_predecessor_is_worked_on() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    made = ahead(items())
    assert next(made) == 1
    assert second.wait(5)  # without anybody asking for it
    assert list(made) == [2]


def test_what_ends_the_making_is_raised_after_what_was_made() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Broken

    made = ahead(items())
    assert next(made) == 1
    with pytest.raises(Broken):
        next(made)


def test_who_stops_early_ends_the_making() -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield (number := number + 1)
        finally:
            ended.set()

    made = ahead(items())
    assert next(made) == 1
    before = threading.active_count()
    made.close()  # type: ignore[attr-defined]
    assert ended.is_set()
    assert threading.active_count() == before - 1


def test_few_items_are_made_beyond_those_that_were_taken() -> None:
    made_so_far: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made_so_far.append(number)
            yield number

    made = ahead(items())
    next(made)
    time.sleep(0.3)
    assert len(made_so_far) <= 3  # taken, waiting, in the maker's hand
    assert list(made) == list(range(1, 100))


def test_calls_come_in_order_and_are_all_made_at_the_end() -> None:
    seen: list[int] = []

    def take(number: int) -> None:
        time.sleep(0.001)
        seen.append(number)

    with behind(take) as call:
        for number in range(50):
            call(number)
    assert seen == list(range(50))


def test_a_call_that_fails_is_told_and_ends_the_others() -> None:
    seen: list[int] = []

    def take(number: int) -> None:
        if number == 1:
            raise Broken
        seen.append(number)

    with pytest.raises(Broken), behind(take) as call:
        deque(map(call, range(10)), maxlen=0)
    assert seen == [0]


def test_a_failure_of_the_last_call_is_told_at_the_end() -> None:
    def take(_number: int) -> None:
        raise Broken

    with pytest.raises(Broken), behind(take) as call:
        call(1)
