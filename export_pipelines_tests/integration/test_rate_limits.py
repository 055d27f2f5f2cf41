"""Buckets of tokens on a real server: exact under pressure, and a refused try costs nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from export_pipelines.core.access import Caller, Role
from export_pipelines.core.rates import Rate
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.rate_limits import RateLimits, subject_of, subject_of_address
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.control_database import emptied

FIVE = Rate(capacity=5, per_seconds=900)


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("limits")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as made:
        yield made


@pytest.fixture
def limits(control: ControlDatabase) -> RateLimits:
    return RateLimits(control)


def let_pass(control: ControlDatabase, seconds: float) -> None:
    """As if nobody had come for a while."""
    control.rows(
        "UPDATE export_control.rate_limits SET refilled_at = refilled_at - %(past)s * interval '1 second'",
        {"past": seconds},
    )


def test_the_capacity_is_there_at_once_and_then_nothing(limits: RateLimits) -> None:
    taken = [limits.take("ann", FIVE) for _ in range(7)]
    assert [found.allowed for found in taken] == [True] * 5 + [False] * 2
    assert [found.remaining for found in taken] == [4, 3, 2, 1, 0, 0, 0]
    assert [found.retry_after_seconds for found in taken[:4]] == [0] * 4
    assert taken[-1].retry_after_seconds == pytest.approx(180, abs=2)
    assert taken[-1].reset_seconds == pytest.approx(900, abs=2)


def test_a_refused_try_takes_nothing(control: ControlDatabase, limits: RateLimits) -> None:
    for _ in range(5):
        limits.take("ann", FIVE)
    for _ in range(20):
        assert not limits.take("ann", FIVE).allowed
    let_pass(control, 181)
    assert [limits.take("ann", FIVE).allowed for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("seconds", "there"), [(0, 0), (179, 0), (181, 1), (361, 2), (899, 4), (10_000, 5)])
def test_tokens_come_back_evenly_and_never_more_than_the_capacity(
    control: ControlDatabase, limits: RateLimits, seconds: float, there: int
) -> None:
    for _ in range(5):
        limits.take("ann", FIVE)
    let_pass(control, seconds)
    assert limits.look("ann", FIVE).remaining == there
    assert Counter(limits.take("ann", FIVE).allowed for _ in range(8))[True] == there


def test_what_is_said_about_the_next_try_is_true(limits: RateLimits) -> None:
    quick = Rate(capacity=1, per_seconds=1)
    assert limits.take("ann", quick).allowed
    refused = limits.take("ann", quick)
    assert not refused.allowed
    time.sleep(refused.retry_after_seconds)
    assert limits.take("ann", quick).allowed


def test_a_clock_that_went_back_neither_fills_nor_breaks_a_bucket(control: ControlDatabase, limits: RateLimits) -> None:
    for _ in range(5):
        limits.take("ann", FIVE)
    let_pass(control, -3600)
    assert not limits.take("ann", FIVE).allowed


def test_a_smaller_limit_counts_from_the_next_try(limits: RateLimits) -> None:
    limits.take("ann", Rate(capacity=100, per_seconds=900))
    assert [limits.take("ann", FIVE).remaining for _ in range(2)] == [4, 3]


def test_looking_takes_nothing_and_writes_nothing(control: ControlDatabase, limits: RateLimits) -> None:
    assert limits.look("ann", FIVE).remaining == 5
    assert control.rows("SELECT 1 FROM export_control.rate_limits") == []


def test_fifty_threads_at_once_take_exactly_the_capacity(migrated: str, control: ControlDatabase) -> None:
    rate, start = Rate(capacity=20, per_seconds=86_400), threading.Barrier(50)

    def take(_: int) -> bool:
        with closing(ControlDatabase(migrated)) as own:
            own.rows("SELECT 1")
            start.wait(timeout=60)
            return RateLimits(own).take("crowd", rate).allowed

    with ThreadPoolExecutor(50) as threads:
        assert Counter(threads.map(take, range(50))) == {True: 20, False: 30}


def test_a_rollback_gives_the_token_back(control: ControlDatabase, limits: RateLimits) -> None:
    with control.transaction():
        limits.take("ann", FIVE)
        raise psycopg.Rollback
    assert limits.look("ann", FIVE).remaining == 5


def test_the_api_takes_tokens_although_it_cannot_touch_the_table(migrated: str, control: ControlDatabase) -> None:
    pool = ControlPool(migrated)
    pool.open()
    try:
        with pool.tenant_session(None) as acting:
            assert RateLimits(acting).take(subject_of_address("10.0.0.1", "logins"), FIVE).remaining == 4
    finally:
        pool.close()
    assert RateLimits(control).look(subject_of_address("10.0.0.1", "logins"), FIVE).remaining == 4


def test_idle_buckets_are_dropped(control: ControlDatabase, limits: RateLimits) -> None:
    control.rows(
        """
        INSERT INTO export_control.rate_limits
        SELECT 'idle ' || n, 0, now() - interval '8 days', false FROM generate_series(1, 100) AS n
        """
    )
    control.rows("SELECT export_control.take_token('busy', 1000000, '1 day') FROM generate_series(1, 20000)")
    assert {row["subject"] for row in control.rows("SELECT subject FROM export_control.rate_limits")} == {"busy"}


ANN = Caller(role=Role.MEMBER, tenant_id="t", user_id="ann", credential="key:1")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Caller(role=Role.ADMIN, tenant_id="t", user_id="ann", credential="jwt:7"), True),
        (Caller(role=Role.MEMBER, tenant_id="t", user_id="bob", credential="key:1"), False),
        (Caller(role=Role.MEMBER, tenant_id="u", user_id="ann", credential="key:1"), False),
        (Caller(role=Role.ADMIN, tenant_id="t", credential="key:1"), False),
        (Caller(role=Role.MEMBER, tenant_id='t", "ann', user_id="", credential="key:1"), False),
    ],
)
def test_a_user_is_counted_once_whatever_the_credential(other: Caller, same: bool) -> None:
    assert (subject_of(other, "exports") == subject_of(ANN, "exports")) == same
    assert subject_of(other, "exports") != subject_of(other, "imports")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::1", True),
        (None, "192.0.2.1", False),
        (None, "a socket", True),
    ],
)
def test_a_home_in_ipv6_is_one_address(one: str | None, other: str, same: bool) -> None:
    assert (subject_of_address(one, "x") == subject_of_address(other, "x")) == same
