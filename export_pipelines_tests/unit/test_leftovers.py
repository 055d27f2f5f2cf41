"""The rule of what is a leftover, and that folders are known by the keys that naming makes."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.catalog import Grain
from export_pipelines.core.model import TenantScope
from export_pipelines.core.naming import (
    Area,
    RequestFolder,
    canonical_prefix,
    export_prefix,
    lake_prefix,
    lake_run,
    lake_stage_prefix,
    request_folder,
    stage_prefix,
)
from export_pipelines.core.retention import Holder, Patience, is_leftover
from export_pipelines.core.status import RequestStatus

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
PATIENCE = Patience(now=NOW, grace=dt.timedelta(days=1), keep=dt.timedelta(days=30))
RECENT, OLD, ANCIENT = (NOW - dt.timedelta(days=days) for days in (0.5, 2, 31))
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
STAGE = RequestFolder(area=Area.STAGE, prefix=f"stage/{ID}/2", request_id=ID, attempt=2)
KEPT = RequestFolder(area=Area.CANONICAL, prefix=f"canonical/t/{ID}", request_id=ID)
PACKAGE = RequestFolder(area=Area.EXPORTS, prefix=f"exports/t/selective/2026/01/02/{ID}", request_id=ID)
ENDED = Holder(status=RequestStatus.COMPLETED, attempt=2, ended_at=OLD, awaits_removal=False)
OPEN = replace(ENDED, status=RequestStatus.PROCESSING, ended_at=None)


def ended(status: RequestStatus, **changes: object) -> Holder:
    return replace(ENDED, status=status, **changes)


@pytest.mark.parametrize(
    ("folder", "holder", "leftover"),
    [
        (STAGE, None, True),
        (STAGE, ENDED, True),
        (STAGE, ended(RequestStatus.FAILED), True),
        (STAGE, OPEN, False),
        (STAGE, replace(OPEN, status=RequestStatus.QUEUED), False),
        (STAGE, replace(OPEN, attempt=3), True),
        (STAGE, replace(ENDED, ended_at=RECENT), False),
        (KEPT, ENDED, False),
        (KEPT, ended(RequestStatus.FAILED), True),
        (KEPT, ended(RequestStatus.EXPIRED), True),
        (KEPT, ended(RequestStatus.EXPIRED, ended_at=RECENT), False),
        (KEPT, ended(RequestStatus.EXPIRED, awaits_removal=True), False),
        (KEPT, OPEN, False),
        (KEPT, None, False),
        (PACKAGE, ENDED, False),
        (PACKAGE, OPEN, False),
        (PACKAGE, replace(OPEN, attempt=9), False),
        (PACKAGE, ended(RequestStatus.CANCELLED), True),
        (PACKAGE, ended(RequestStatus.CANCELLED, ended_at=RECENT), False),
        (PACKAGE, ended(RequestStatus.EXPIRED), True),
        (PACKAGE, None, False),
    ],
)  # fmt: skip
def test_only_what_no_request_needs_is_a_leftover(folder: RequestFolder, holder: Holder | None, leftover: bool) -> None:
    assert is_leftover(folder, holder, OLD, PATIENCE) is leftover


@pytest.mark.parametrize("folder", [STAGE, KEPT, PACKAGE])
@pytest.mark.parametrize("holder", [None, ENDED, OPEN, *(ended(status) for status in RequestStatus)])
def test_nothing_that_was_written_within_the_grace_is_a_leftover(folder: RequestFolder, holder: Holder | None) -> None:
    assert not is_leftover(folder, holder, RECENT, PATIENCE)


@pytest.mark.parametrize("folder", [KEPT, PACKAGE])
def test_packages_of_unknown_requests_stay_as_long_as_packages_do(folder: RequestFolder) -> None:
    assert is_leftover(folder, None, ANCIENT, PATIENCE)


@given(
    st.text(min_size=1),
    st.text(min_size=1),
    st.integers(1, 999),
    st.integers(1000, 9999),
)
def test_a_request_is_found_again_by_every_key_of_its_folders(tenant: str, kind: str, attempt: int, year: int) -> None:
    at = dt.datetime(year, 2, 3, tzinfo=dt.UTC)
    request_id, scope = str(uuid4()), TenantScope(tenant_id=tenant)
    prefixes = {
        Area.STAGE: stage_prefix(request_id, attempt),
        Area.CANONICAL: canonical_prefix(scope, request_id),
        Area.EXPORTS: export_prefix(scope, kind, at, request_id),
    }
    for area, prefix in prefixes.items():
        found = request_folder(f"{prefix}/deep/file.csv")
        wanted = attempt if area is Area.STAGE else None
        assert found == RequestFolder(area=area, prefix=prefix, request_id=request_id, attempt=wanted)


@pytest.mark.parametrize(
    "key",
    [
        f"{lake_stage_prefix('3d6f')}/part-00000.parquet",
        f"{lake_prefix('clinic', 'pets', TenantScope(tenant_id='t'), Grain.NONE, None)}/part-00000.parquet",
        f"stage/{ID}",
        f"stage/{ID}/x/file",
        f"exports/t/{ID}/file",
        f"backup/stage/{ID}/1/file",
        "exports/t/selective/2026/01/02/notes/file",
    ],
)
def test_other_keys_belong_to_no_request(key: str) -> None:
    assert request_folder(key) is None


def test_a_run_is_found_again_by_what_it_stages_for_the_lake() -> None:
    assert lake_run(f"{lake_stage_prefix('3d6f')}/part-00000.parquet") == "3d6f"
    assert lake_run("stage/lake") is None
    assert lake_run(f"stage/{ID}/1/file") is None
