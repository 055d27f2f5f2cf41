"""The audit log on a real server: nobody changes it unseen, and who may read what."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg
import pytest

from export_pipelines.core.access import Caller, Role
from export_pipelines.core.audit import Origin, Outcome
from export_pipelines.core.errors import RequestRejected
from export_pipelines.stores import audit
from export_pipelines.stores.audit import AuditFilter, AuditLog, Head, as_csv, as_ndjson
from export_pipelines.stores.audit_chain import Damage, Verification, parse_head, verify_chain
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.control_database import emptied

ANN = Caller(role=Role.ADMIN, tenant_id="t", user_id="ann", credential="key:1")
BOB = Caller(role=Role.MEMBER, tenant_id="u", user_id="bob", credential="jwt:7")
OPERATOR = Caller(role=Role.OPERATOR, user_id="oscar", credential="key:2")
ODD = {"text": "a,b:c-\"'\\ \n é 漢 😀", "rows": 10**20, "share": 0.1, "null": None}


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("audit")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as made:
        yield made


@pytest.fixture
def log(control: ControlDatabase) -> AuditLog:
    return AuditLog(control)


@pytest.fixture(scope="module")
def pool(migrated: str) -> Iterator[ControlPool]:
    made = ControlPool(migrated)
    made.open()
    yield made
    made.close()


@pytest.fixture
def ten(control: ControlDatabase, log: AuditLog) -> Head:
    """Ten entries of all kinds; the newest."""
    for number in range(9):
        origin = Origin(
            ip=("192.0.2.7", "2001:db8::1", None)[number % 3], user_agent="curl/8 (x; é)", http_request_id=""
        )
        outcome = tuple(Outcome)[number % 3]
        who = (ANN, BOB, OPERATOR, None)[number % 4]
        log.append(
            f"act.{number}", caller=who, target=("export", f"e{number}"), outcome=outcome, origin=origin, detail=ODD
        )
    head = log.append("act.9", caller=ANN)
    assert verify_chain(control, noted=head) == Verification(entries=10, head=head, broken=None)
    return head


def tamper(url: str, *statements: str) -> None:
    """As a superuser with every trigger and constraint out of the way."""
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)


# Appending ----------------------------------------------------------------------------------------------------------


def test_an_entry_says_what_was_told(log: AuditLog) -> None:
    origin = Origin(ip="::ffff:192.0.2.7", user_agent="curl/8", http_request_id="r-1")
    before = dt.datetime.now(dt.UTC)
    head = log.append("export.create", caller=ANN, target=("export", "e-1"), origin=origin, detail={"b": 1, "a": "é"})
    (entry,) = log.list()
    assert (entry.id, entry.hash) == (head.id, head.hash)
    assert dt.datetime.fromisoformat(entry.at) - before < dt.timedelta(minutes=1)
    assert (entry.tenant_id, entry.user_id, entry.role, entry.credential) == ("t", "ann", "admin", "key:1")
    assert (entry.action, entry.target_type, entry.target_id, entry.outcome) == ("export.create", "export", "e-1", "ok")
    assert (entry.ip, entry.user_agent, entry.http_request_id) == ("192.0.2.7", "curl/8", "r-1")
    assert entry.detail == '{"a":"é","b":1}'


@pytest.mark.parametrize(
    ("reported", "kept"),
    [
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("testclient", None),
        ("", None),
        ("1.2.3.4, x", None),
    ],
)
def test_whatever_a_socket_or_proxy_says_is_an_address_or_none(log: AuditLog, reported: str, kept: str | None) -> None:
    log.append("a", caller=ANN, origin=Origin(ip=reported))
    assert log.list()[0].ip == kept


def test_an_entry_of_nobody_is_one_too(log: AuditLog) -> None:
    log.append("link.follow", caller=None, outcome=Outcome.REFUSED)
    (entry,) = log.list()
    assert (entry.tenant_id, entry.user_id, entry.role, entry.detail) == (None, None, None, "{}")


def test_a_flood_of_text_is_cut_and_never_stops_the_work(control: ControlDatabase, log: AuditLog) -> None:
    origin = Origin(user_agent="ü" * 10_000 + "\0", http_request_id="\ud800" * 300)
    log.append("a" * 200, caller=ANN, target=("t", "x" * 5000), origin=origin, detail={"much": "ü" * 10_000})
    (entry,) = log.list()
    assert entry.user_agent == "ü" * 500
    assert (len(entry.action), len(entry.target_id or ""), len(entry.http_request_id or "")) == (100, 200, 200)
    assert json.loads(entry.detail) == {"omitted_bytes": 20_011}
    assert verify_chain(control).valid


def test_an_entry_belongs_to_the_tenant_whose_data_it_is_about(log: AuditLog) -> None:
    log.append("key.revoke", caller=OPERATOR, tenant_id="t")
    assert log.list()[0].tenant_id == "t"


def test_an_entry_ends_with_its_transaction_and_leaves_no_gap(control: ControlDatabase, log: AuditLog) -> None:
    log.append("one", caller=ANN)
    with control.transaction():
        log.append("two", caller=ANN)
        raise psycopg.Rollback
    assert log.append("three", caller=ANN).id == 2
    assert verify_chain(control).entries == 2


def test_writers_at_the_same_time_make_one_chain(migrated: str, control: ControlDatabase) -> None:
    def write(number: int) -> None:
        with closing(ControlDatabase(migrated)) as own:
            for _ in range(25):
                AuditLog(own).append(f"writer.{number}", caller=ANN)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert verify_chain(control).entries == 200
    assert len({entry.at for entry in AuditLog(control).stream()}) == 200


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE export_control.audit_log SET user_id = 'eve'",
        "DELETE FROM export_control.audit_log",
        "TRUNCATE export_control.audit_log",
    ],
)
def test_not_even_the_owner_changes_an_entry_by_the_way(control: ControlDatabase, ten: Head, statement: str) -> None:
    with pytest.raises(RequestRejected, match="audit_log is append-only"):
        control.rows(statement)


# Proof --------------------------------------------------------------------------------------------------------------

_FORGED = """
    INSERT INTO export_control.audit_log (id, at, action, outcome, detail, previous_hash, hash)
    SELECT {id}, now(), 'forged', 'ok', '{{}}', {previous}, sha256('x') FROM export_control.audit_log WHERE id = 10
"""
_WITHOUT_KEY = "ALTER TABLE export_control.audit_log DROP CONSTRAINT IF EXISTS audit_log_pkey"
_WITH_KEY = (
    "DELETE FROM export_control.audit_log",
    "ALTER TABLE export_control.audit_log ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id)",
)
CHANGES = {
    "at": "at + interval '1 microsecond'", "tenant_id": "'eve'", "user_id": "NULL", "role": "'member'",
    "credential": "''", "action": "action || ' '", "target_type": "NULL", "target_id": "'other'", "outcome": "'failed'",
    "ip": "'192.0.2.8'", "user_agent": "NULL", "http_request_id": "NULL", "detail": "'{\"rows\": 1}'",
    "hash": "sha256('x')",
}  # fmt: skip


@pytest.mark.parametrize(("column", "value"), CHANGES.items(), ids=CHANGES)
def test_a_changed_field_is_found(migrated: str, control: ControlDatabase, ten: Head, column: str, value: str) -> None:
    tamper(migrated, f"UPDATE export_control.audit_log SET {column} = {value} WHERE id = 5")
    found = verify_chain(control)
    assert found.broken is not None
    assert (found.broken.id, found.broken.damage, found.entries) == (5, Damage.CHANGED, 4)


TAMPERINGS: dict[str, tuple[tuple[str, ...], int, Damage]] = {
    "an endless instant": (("UPDATE export_control.audit_log SET at = 'infinity' WHERE id = 5",), 5, Damage.CHANGED),
    "one deleted": (("DELETE FROM export_control.audit_log WHERE id = 5",), 5, Damage.MISSING),
    "the first deleted": (("DELETE FROM export_control.audit_log WHERE id = 1",), 1, Damage.MISSING),
    "several deleted": (("DELETE FROM export_control.audit_log WHERE id BETWEEN 3 AND 8",), 3, Damage.MISSING),
    "one deleted and the rest moved up": (
        (
            "DELETE FROM export_control.audit_log WHERE id = 5",
            "UPDATE export_control.audit_log SET id = -id WHERE id > 5",
            "UPDATE export_control.audit_log SET id = -id - 1 WHERE id < 0",
        ),
        5,
        Damage.INSERTED,
    ),
    "two swapped": (
        (
            "UPDATE export_control.audit_log SET id = 1000 WHERE id = 5",
            "UPDATE export_control.audit_log SET id = 5 WHERE id = 6",
            "UPDATE export_control.audit_log SET id = 6 WHERE id = 1000",
        ),
        5,
        Damage.REORDERED,
    ),
    "one forged at the end": ((_FORGED.format(id=11, previous="sha256('y')"),), 11, Damage.INSERTED),
    "one forged with the right predecessor": ((_FORGED.format(id=11, previous="hash"),), 11, Damage.CHANGED),
    "a number left out": ((_FORGED.format(id=12, previous="hash"),), 11, Damage.MISSING),
    "one before the first": ((_FORGED.format(id=0, previous="hash"),), 0, Damage.INSERTED),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "first", "damage"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_tampering_is_found_and_named(
    migrated: str,
    control: ControlDatabase,
    ten: Head,
    statements: tuple[str, ...],
    first: int,
    damage: Damage,
) -> None:
    lax = "ALTER TABLE export_control.audit_log DROP CONSTRAINT IF EXISTS audit_log_id_check"
    tamper(migrated, lax, *statements)
    found = verify_chain(control)
    assert found.broken is not None
    assert (found.broken.id, found.broken.damage) == (first, damage)


@pytest.mark.parametrize("page_rows", [1000, 5])
def test_an_entry_with_the_number_of_another_is_found(
    migrated: str, control: ControlDatabase, ten: Head, monkeypatch: pytest.MonkeyPatch, page_rows: int
) -> None:
    """Also where a page ends with it, so that reading on from its number passes over its double."""
    monkeypatch.setattr(audit, "_STREAM_ROWS", page_rows)
    copy = "INSERT INTO export_control.audit_log SELECT * FROM export_control.audit_log WHERE id = 5"
    tamper(migrated, _WITHOUT_KEY, copy)
    try:
        found = verify_chain(control)
    finally:
        tamper(migrated, *_WITH_KEY)
    assert found.broken is not None
    assert found.broken.damage is Damage.INSERTED


def test_a_cut_end_is_found_against_a_noted_head_and_only_so(
    migrated: str, control: ControlDatabase, ten: Head
) -> None:
    tamper(migrated, "DELETE FROM export_control.audit_log WHERE id > 7")
    assert verify_chain(control).valid
    found = verify_chain(control, noted=ten)
    assert found.broken is not None
    assert (found.broken.id, found.broken.damage, found.entries) == (8, Damage.TRUNCATED, 7)


def test_an_emptied_log_is_found_against_a_noted_head(migrated: str, control: ControlDatabase, ten: Head) -> None:
    tamper(migrated, "TRUNCATE export_control.audit_log")
    assert verify_chain(control) == Verification(entries=0, head=None, broken=None)
    found = verify_chain(control, noted=ten)
    assert found.broken is not None
    assert (found.broken.id, found.broken.damage) == (1, Damage.TRUNCATED)


def test_history_written_anew_is_found_against_a_noted_head(
    migrated: str, control: ControlDatabase, log: AuditLog, ten: Head
) -> None:
    tamper(migrated, "TRUNCATE export_control.audit_log")
    for number in range(12):
        log.append(f"other.{number}", caller=ANN)
    assert verify_chain(control).valid
    found = verify_chain(control, noted=ten)
    assert found.broken is not None
    assert (found.broken.id, found.broken.damage) == (10, Damage.REPLACED)


def test_a_noted_head_stays_good_while_the_log_grows(control: ControlDatabase, log: AuditLog, ten: Head) -> None:
    for _ in range(3):
        log.append("more", caller=BOB)
    assert verify_chain(control, noted=ten).entries == 13


@pytest.mark.parametrize("text", ["", "7", "7:abc", "0:" + "0" * 64, "-1:" + "0" * 64, "7:" + "g" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(RequestRejected, match="--head"):
        parse_head(text)


def test_a_head_is_read_as_it_was_printed() -> None:
    head = Head(id=12, hash="ab" * 32)
    assert parse_head(f" {head}\n") == head


def test_a_third_party_computes_the_chain_from_the_ndjson(log: AuditLog, ten: Head, tmp_path: Path) -> None:
    """With another reader, and nothing but what docs/access.md says."""
    (tmp_path / "log.ndjson").write_text("".join(as_ndjson(log.stream())), encoding="utf-8")
    names = (
        "id", "at", "tenant_id", "user_id", "role", "credential", "action", "target_type", "target_id", "outcome",
        "ip", "user_agent", "http_request_id", "detail",
    )  # fmt: skip
    columns = dict.fromkeys((*names, "hash"), "VARCHAR")
    with duckdb.connect() as session:
        read = session.read_json(str(tmp_path / "log.ndjson"), columns=columns).order("id::BIGINT").fetchall()
    known = bytes(32)
    for *values, noted in read:
        text = b"".join(b"-," if v is None else f"{len(v.encode())}:{v},".encode() for v in values)
        known = hashlib.sha256(known + text).digest()
        assert known.hex() == noted
    assert (len(read), known.hex()) == (10, ten.hash)


# Reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "tenants"),
    [
        (ANN, {"t"}),
        (BOB, set()),
        (OPERATOR, {"t", "u", None}),
        (None, set()),
        (Caller(role=Role.ADMIN, tenant_id="", credential="key:9"), set()),
    ],
    ids=["admin", "member", "operator", "nobody", "admin of nothing"],
)
def test_roles_read_what_is_theirs(
    pool: ControlPool, ten: Head, caller: Caller | None, tenants: set[str | None]
) -> None:
    with pool.tenant_session(caller) as acting:
        assert {entry.tenant_id for entry in AuditLog(acting).list()} == tenants
        assert {entry.tenant_id for entry in AuditLog(acting).list(AuditFilter(tenant_id="u"))} == tenants & {"u"}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO export_control.audit_log (id) VALUES (99)",
        "UPDATE export_control.audit_log SET user_id = 'eve'",
        "DELETE FROM export_control.audit_log",
    ],
)
def test_the_api_cannot_write_but_by_appending(pool: ControlPool, ten: Head, statement: str) -> None:
    with pytest.raises(RequestRejected, match="the login may not do this"), pool.tenant_session(OPERATOR) as acting:
        acting.rows(statement)


def test_the_api_appends_for_any_caller(pool: ControlPool, control: ControlDatabase, ten: Head) -> None:
    for caller in (ANN, BOB, OPERATOR):
        with pool.tenant_session(caller) as acting:
            AuditLog(acting).append("export.read", caller=caller)
    with pool.tenant_session(None) as acting, pytest.raises(RequestRejected, match="names its caller"):
        AuditLog(acting).append("export.read", caller=None)
    assert verify_chain(control, noted=ten).entries == 13


@pytest.mark.parametrize(
    ("wanted", "actions"),
    [
        (AuditFilter(user_id="bob"), ["act.5", "act.1"]),
        (AuditFilter(tenant_id="t"), ["act.9", "act.8", "act.4", "act.0"]),
        (AuditFilter(action="act.3"), ["act.3"]),
        (AuditFilter(target_id="e6"), ["act.6"]),
        (AuditFilter(user_id="bob", action="act.1"), ["act.1"]),
        (AuditFilter(since=dt.datetime(2000, 1, 1, tzinfo=dt.UTC), user_id="bob"), ["act.5", "act.1"]),
        (AuditFilter(until=dt.datetime(2000, 1, 1, tzinfo=dt.UTC)), []),
    ],
)
def test_filters_choose(log: AuditLog, ten: Head, wanted: AuditFilter, actions: list[str]) -> None:
    assert [entry.action for entry in log.list(wanted)] == actions
    assert [entry.action for entry in log.stream(wanted)] == actions[::-1]


def test_times_are_half_open(log: AuditLog, ten: Head) -> None:
    fifth = dt.datetime.fromisoformat(log.list()[5].at)
    assert [entry.id for entry in log.list(AuditFilter(since=fifth))] == [10, 9, 8, 7, 6, 5]
    assert [entry.id for entry in log.list(AuditFilter(until=fifth))] == [4, 3, 2, 1]


def test_pages_meet_without_gap_or_repetition(log: AuditLog, ten: Head) -> None:
    first = log.list(limit=4)
    second = log.list(limit=4, before=first[-1].id)
    log.append("meanwhile", caller=ANN)
    third = log.list(limit=4, before=second[-1].id)
    assert [entry.id for entry in (*first, *second, *third)] == list(range(10, 0, -1))


def test_a_user_agent_runs_no_formula_in_a_spreadsheet(log: AuditLog) -> None:
    log.append("a", caller=ANN, origin=Origin(user_agent='=cmd|"/c calc"!A1'), detail={"x": 'a"b,c\nd'})
    (row,) = csv.DictReader(io.StringIO("".join(as_csv(log.stream()))))
    assert row["user_agent"] == '\'=cmd|"/c calc"!A1'
    assert json.loads(row["detail"]) == {"x": 'a"b,c\nd'}
