"""Users of the API: each asks for an export, waits for it, downloads its files, checks them, and begins again.

Half of them poll as often as `Retry-After` says, the others follow the events.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.load.clock import Clock, WentWrong

JOBS = "/api/v1/exports/jobs"
ORDER = {"tables": ["appointments"], "format": "csv", "compression": "gzip"}
_PATIENCE_SECONDS = 300  # for one export
_LOOK_SECONDS = 0.2  # at an export that is alone; when it was completed, the service knows
_REST_SECONDS = 0.7  # its run has an end after publishing
_ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class User:
    """Whose key it is, and how this one waits."""

    key: str
    follows: bool

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


async def load(base_url: str, users: Sequence[User], seconds: float, clock: Clock) -> None:
    """All users at once until the time is over; exports that are open then are seen to their end."""
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for user in users:
            group.create_task(_work(base_url, user, until, clock))


async def one_after_another(base_url: str, user: User, count: int) -> list[float]:
    """Seconds from POST to completed, by the service's own note, of exports that have the machine to themselves."""
    found, clock = [], Clock()
    async with httpx.AsyncClient(base_url=base_url, timeout=60) as client:
        for _ in range(count):
            began = time.time()
            job = await _ordered(client, user, clock, ORDER)
            status = await _polled(client, user, job, clock, every_seconds=_LOOK_SECONDS)
            if status["status"] != "completed":
                raise clock.wrong("export", status["status"])
            found.append(dt.datetime.fromisoformat(status["completed_at"]).timestamp() - began)
            await asyncio.sleep(_REST_SECONDS)
    return found


async def _ordered(client: httpx.AsyncClient, user: User, clock: Clock, order: Mapping[str, object]) -> str:
    with clock.timing("order"):
        return str(_expect(await client.post(JOBS, json=order, headers=user.headers), 202).json()["job_id"])


async def _work(base_url: str, user: User, until: float, clock: Clock) -> None:
    async with httpx.AsyncClient(base_url=base_url, timeout=60) as client:
        while time.perf_counter() < until:
            try:
                await export(client, user, clock)
            except WentWrong:
                await asyncio.sleep(1)  # it is counted; a user would try again


async def export(client: httpx.AsyncClient, user: User, clock: Clock, order: Mapping[str, object] = ORDER) -> None:
    """One export to its end, downloaded and checked; `WentWrong` after the clock has counted an error."""
    began = time.perf_counter()
    job = await _ordered(client, user, clock, order)
    status = await (_followed if user.follows else _polled)(client, user, job, clock)
    if status["status"] != "completed":
        raise clock.wrong("export", f"{status['status']} {(status['error'] or {}).get('type')}")
    clock.exports.append(time.perf_counter() - began)
    for file in status["files"]:
        await _download(client, user, file, clock)
    with clock.timing("history"):
        _expect(await client.get(JOBS, params={"limit": 10}, headers=user.headers), 200)


async def _polled(
    client: httpx.AsyncClient, user: User, job: str, clock: Clock, *, every_seconds: float | None = None
) -> dict[str, Any]:
    """As often as told, unless the caller knows better."""
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while True:
        with clock.timing("status"):
            answer = _expect(await client.get(f"{JOBS}/{job}/status", headers=user.headers), 200)
            status: dict[str, Any] = answer.json()
            if status["status"] in _ENDED:
                return status
            if time.perf_counter() > deadline:
                raise WentWrong("not ended in time")
        await asyncio.sleep(every_seconds or float(answer.headers["Retry-After"]))


async def _followed(client: httpx.AsyncClient, user: User, job: str, clock: Clock) -> dict[str, Any]:
    with clock.timing("events"):  # as long as the export takes; its latency is not told
        events = client.stream("GET", f"{JOBS}/{job}/events", timeout=_PATIENCE_SECONDS, headers=user.headers)
        async with events as answer:
            _expect(answer, 200)
            async for status in _reported(answer):
                if status["status"] in _ENDED:
                    return status
        raise WentWrong("ended before the export")


async def _reported(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


async def _download(client: httpx.AsyncClient, user: User, file: dict[str, Any], clock: Clock) -> None:
    with clock.timing("download"):
        answer = _expect(await client.get(file["download_url"], follow_redirects=True, headers=user.headers), 200)
        if hashlib.sha256(answer.content).hexdigest() != file["checksum"]:
            raise WentWrong("another checksum")
    clock.size_bytes += len(answer.content)
    clock.rows += file["rows"]


def _expect(answer: httpx.Response, status: int) -> httpx.Response:
    if answer.status_code != status:
        raise WentWrong(str(answer.status_code))
    return answer
