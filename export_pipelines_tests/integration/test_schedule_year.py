"""A year of a thousand schedules whose dispatcher is killed again and again: every fire is one request."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import DataWindow
from export_pipelines.core.errors import Unavailable
from export_pipelines.core.recurrence import MISSED_AFTER, CatchUp
from export_pipelines.core.scheduling import ScheduleDraft
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.dispatch import Dispatcher
from export_pipelines.stores.schedules import ScheduleStore
from export_pipelines.stores.secrets import SecretBox
from export_pipelines_tests.fires import expected_fires
from export_pipelines_tests.lanes import EXHAUSTIVE

SEED = 20260
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
END = START + dt.timedelta(days=365)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Lisbon",
    "Europe/Athens",
    "Europe/Istanbul",
    "Europe/Chisinau",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Johannesburg",
    "Asia/Beirut",
    "Asia/Jerusalem",
    "Asia/Tehran",
    "Asia/Kabul",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Dhaka",
    "Asia/Yangon",
    "Asia/Tokyo",
    "Asia/Shanghai",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "Australia/Sydney",
    "Australia/Darwin",
    "Pacific/Chatham",
    "Pacific/Auckland",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Marquesas",
    "Pacific/Honolulu",
    "America/St_Johns",
    "America/New_York",
    "America/Los_Angeles",
    "America/Havana",
    "America/Santiago",
    "America/Asuncion",
    "America/Sao_Paulo",
    "America/Caracas",
    "Atlantic/Azores",
    "Antarctica/Troll",
]


class Killed(Exception):
    """What stops a dispatcher in the middle of it."""


class Fragile:
    """A control database whose user dies between any two statements, before a commit and after one."""

    def __init__(self, control: ControlDatabase, chance: random.Random) -> None:
        self._control = control
        self._chance = chance
        self.now = START
        self.likely = 0.0
        self.deaths = 0

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._control.transaction() as connection:
            self.may_die()
            yield _Statements(connection, self)
        self.may_die()

    def rows(self, query: Any, values: dict[str, Any] | None = None) -> Any:
        return self._control.rows(query, values)

    def may_die(self) -> None:
        if self._chance.random() < self.likely:
            self.deaths += 1
            raise Killed


class _Statements:
    def __init__(self, connection: psycopg.Connection[Any], fragile: Fragile) -> None:
        self._connection = connection
        self._fragile = fragile

    def execute(self, query: Any, values: Any) -> Any:
        assert all(fire <= self._fragile.now for fire in values.get("scheduled_for", ())), "a fire came early"
        done = self._connection.execute(query, values)
        self._fragile.may_die()
        return done


def random_cron(chance: random.Random) -> str:
    """Mostly a fire a month or a week, a few a day or an hour; many at the hours at which clocks are changed."""
    minute, hour = chance.choice((0, 15, 30, 59)), chance.choice((0, 1, 2, 2, 3, chance.randrange(24)))
    day, weekday, month = chance.randrange(1, 31), chance.randrange(7), chance.randrange(1, 13)
    forms = {
        f"{minute} {hour} * * {weekday}": 14,
        f"{minute} {hour} {day} * *": 60,
        f"{minute} {hour} L * *": 10,
        f"{minute} {hour} * * *": 2,
        f"{minute},{(minute + 7) % 60} {hour} {day} */3 *": 5,
        f"{minute} {hour} {day} {month} {weekday}": 5,
        f"*/30 {hour} {day} * *": 3,
        f"{minute} * {day} {month} *": 1,
    }
    return chance.choices(list(forms), list(forms.values()))[0]


def ticks(chance: random.Random) -> list[dt.datetime]:
    """When the dispatcher looks: every few minutes for a while, then not for hours or days."""
    found, now = [], START
    while now < END:
        short = chance.random() < 0.6
        now += dt.timedelta(minutes=chance.uniform(1, 8)) if short else dt.timedelta(hours=chance.expovariate(1 / 22))
        found.append(min(now, END - dt.timedelta(seconds=1)))
    return found


def owed(fires: list[dt.datetime], looks: list[dt.datetime], policy: CatchUp) -> list[dt.datetime]:
    """Which fires become requests when the dispatcher looks at those instants."""
    if policy is CatchUp.ALL:
        return fires
    found, place = [], 0
    for _, now in pairwise([START, *looks]):
        due = []
        while place < len(fires) and fires[place] <= now:
            due.append(fires[place])
            place += 1
        fresh = [fire for fire in due if fire >= now - MISSED_AFTER]
        found += fresh or (due[-1:] if policy is CatchUp.LATEST else [])
    return found


@pytest.fixture
def control(control_url: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(control_url)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("schedules", "deaths"), [(100, 50), pytest.param(1_000, 150, marks=EXHAUSTIVE)], ids=["a hundred", "a thousand"]
)
def test_every_fire_of_a_year_is_one_request_however_often_the_dispatcher_dies(
    control: ControlDatabase, schedules: int, deaths: int
) -> None:
    chance = random.Random(SEED)
    made: dict[str, tuple[Cron, CatchUp, int]] = {}
    store = ScheduleStore(control)
    with control.transaction():
        for number in range(schedules):
            cron = Cron(expression=random_cron(chance), timezone=ZONES[number % len(ZONES)])
            policy, jitter = chance.choice(list(CatchUp)), chance.choice((0, 0, 600))
            first = cron.next_fire(START - dt.timedelta(seconds=1))
            assert first is not None
            draft = ScheduleDraft(
                name=f"schedule {number}",
                config={"tables": ["pets"], "format": "csv"},
                cron=cron,
                window=DataWindow.model_validate("previous_day"),
                catch_up=policy,
                jitter_seconds=jitter,
                keep_days=None,
                pause_after=None,
                next_fire_at=first,
            )
            made[store.create(draft, tenant_id=f"t{number % 50}", owner="ann", owner_role=None).id] = (
                cron,
                policy,
                jitter,
            )
    fragile, looks = Fragile(control, chance), ticks(chance)
    dispatcher = Dispatcher(fragile, SecretBox(lambda: bytes(32)))
    for now in looks:
        fragile.now, fragile.likely = now, 0.04
        while True:
            try:
                assert not dispatcher.dispatch(now).more
                break
            except Killed:
                fragile.likely *= 0.9
    rows = control.rows(
        """
        SELECT schedule_id::text AS id, array_agg(scheduled_for ORDER BY scheduled_for) AS fires,
               min(not_before - scheduled_for) AS least, max(not_before - scheduled_for) AS most,
               bool_and((config #>> '{filters,date_range,end}')::timestamptz <= scheduled_for) AS closed
        FROM export_control.export_requests GROUP BY schedule_id
        """
    )
    found = {row["id"]: row for row in rows}
    for schedule_id, (cron, policy, jitter) in made.items():
        expected = owed(expected_fires(cron.expression, cron.timezone, START, END), looks, policy)
        got = found.get(schedule_id, {"fires": []})
        reported = f"{cron.expression} {cron.timezone} {policy}"
        assert [fire.astimezone(dt.UTC) for fire in got["fires"]] == expected, reported
        if expected:
            assert dt.timedelta(0) <= got["least"] <= got["most"] <= dt.timedelta(seconds=jitter), reported
            assert got["closed"], reported
    assert fragile.deaths > deaths


@pytest.mark.parametrize(
    "damage",
    ["timezone = 'Mars/Olympus'", 'config = \'{"tables": ["pets"]}\''],
    ids=["the dispatcher finds out", "the table refuses the request"],
)
def test_a_pause_is_logged_and_told_once_however_often_the_dispatcher_dies(
    control: ControlDatabase, damage: str
) -> None:
    store = ScheduleStore(control)
    draft = ScheduleDraft(
        name="daily",
        config={"tables": ["pets"], "format": "csv"},
        cron=Cron(expression="0 0 * * *", timezone="UTC"),
        window=DataWindow(),
        catch_up=CatchUp.ALL,
        jitter_seconds=0,
        keep_days=None,
        pause_after=None,
        next_fire_at=START,
    )
    made = {store.create(draft, tenant_id="t", owner="ann@example.com", owner_role=None).id for _ in range(20)}
    control.rows(f"UPDATE export_control.export_schedules SET {damage}")
    fragile = Fragile(control, random.Random(SEED))
    fragile.likely = 0.3
    dispatcher = Dispatcher(fragile, SecretBox(lambda: bytes(32)))
    while True:
        try:
            assert not dispatcher.dispatch(START).more
            break
        except Killed:
            paused, logged, reported = (
                [str(row["id"]) for row in control.rows(query)]
                for query in (
                    "SELECT id FROM export_control.export_schedules WHERE state = 'paused' ORDER BY id",
                    """
                    SELECT target_id AS id FROM export_control.audit_log WHERE action = 'schedule.auto_pause'
                    ORDER BY target_id
                    """,
                    "SELECT schedule_id AS id FROM export_control.export_deliveries ORDER BY schedule_id",
                )
            )
            assert paused == logged == reported
    reported = [
        str(row["id"]) for row in control.rows("SELECT schedule_id AS id FROM export_control.export_deliveries")
    ]
    assert sorted(reported) == sorted(made)
    assert len(control.rows("SELECT id FROM export_control.audit_log")) == len(made)
    assert fragile.deaths > 3


def test_a_server_that_cuts_the_connection_costs_no_fire(control_url: str, control: ControlDatabase) -> None:
    cron = Cron(expression="0 * * * *", timezone="UTC")
    draft = ScheduleDraft(
        name="hourly",
        config={"tables": ["pets"], "format": "csv"},
        cron=cron,
        window=DataWindow(),
        catch_up=CatchUp.ALL,
        jitter_seconds=0,
        keep_days=None,
        pause_after=None,
        next_fire_at=START,
    )
    schedule = ScheduleStore(control).create(draft, tenant_id="t", owner="ann", owner_role=None)
    now = START + dt.timedelta(hours=5, minutes=1)

    class Cut(Fragile):
        def may_die(self) -> None:
            if self.deaths < 4:
                self.deaths += 1
                with psycopg.connect(control_url, autocommit=True) as other:
                    other.execute(
                        """
                        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid()
                        """
                    )

    cut = Cut(control, random.Random(SEED))
    cut.now = now
    dispatcher, tries = Dispatcher(cut, SecretBox(lambda: bytes(32))), 0
    while True:
        tries += 1
        try:
            dispatcher.dispatch(now)
            break
        except Unavailable:
            continue
    rows = control.rows("SELECT schedule_id, scheduled_for FROM export_control.export_requests ORDER BY 2")
    assert [row["scheduled_for"] for row in rows] == [START + dt.timedelta(hours=hour) for hour in range(6)]
    assert {str(row["schedule_id"]) for row in rows} == {schedule.id}
    assert tries > 2
