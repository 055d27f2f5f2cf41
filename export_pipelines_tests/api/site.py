"""One running API with people of two tenants, and what each of them owns."""

from __future__ import annotations

import datetime as dt
import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from export_pipelines.core.access import Role
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.stores.control import ControlDatabase
from export_pipelines_tests.published import Publisher
from export_pipelines_tests.servers.issuer import Issuer
from export_pipelines_tests.workshop import TENANTS

JOBS, AUDIT = "/api/v1/exports/jobs", "/api/v1/audit"
SCHEDULES, TEMPLATES = "/api/v1/exports/schedules", "/api/v1/exports/templates"
PETS: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
NIGHTLY: dict[str, Any] = {"name": "Nightly", "cron": "0 3 * * *", "config": PETS}
TEMPLATE: dict[str, Any] = {"name": "Pets", "config": PETS}
HOME_TENANT, OTHER_TENANT = TENANTS[:2]

_addresses = itertools.count(1)


@dataclass(frozen=True)
class Person:
    """Somebody with a key."""

    name: str
    role: Role
    tenant: str | None


PEOPLE = {
    person.name: person
    for person in (
        Person("ann", Role.MEMBER, HOME_TENANT),
        Person("bob", Role.MEMBER, HOME_TENANT),
        Person("chief", Role.ADMIN, HOME_TENANT),
        Person("eve", Role.MEMBER, OTHER_TENANT),
        Person("rival", Role.ADMIN, OTHER_TENANT),
        Person("oscar", Role.OPERATOR, None),
    )
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """Something of somebody's, as a rule a completed export with a link, and every text about it that a stranger must
    not see.
    """

    id: str
    link_id: str
    token: str
    marks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Site:
    """The server, its databases, its people."""

    address: str
    home: Path
    log: Path
    control: ControlDatabase
    api_url: str  # of the server's own login
    keys: Mapping[str, str]  # of people, by name
    environment: Mapping[str, str]  # of the server, for another one beside it
    issuer: Issuer
    private_key: Any  # with which the issuer signs
    secrets: list[str] = field(default_factory=list)  # what the log must not hold, collected by tests

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(control=self.control, store=LocalStore(self.home / "objects"))

    def client(self, who: str | None = None, **headers: str) -> httpx.Client:
        """Somebody's client, at an address that nobody has used."""
        number = next(_addresses)
        headers = {"X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", **headers}
        if who is not None:
            headers["Authorization"] = f"Bearer {self.keys[who]}"
        return httpx.Client(base_url=self.address, headers=headers, timeout=30, verify=False)  # no TLS to set up

    def ask(self, who: str | None, method: str, path: str, **options: Any) -> httpx.Response:
        """One call."""
        with self.client(who) as client:
            return client.request(method, path, **options)

    def publish(self, who: str = "ann", files: Mapping[str, bytes] | None = None, **link: Any) -> Made:
        """A completed export of somebody's, marked throughout, and a link to it."""
        owner, mark = PEOPLE[who], secrets.token_hex(8)
        files = files or {f"{mark}.csv": f"id,name\n1,{mark}\n".encode(), "manifest.json": b"{}\n"}
        made = self.publisher.publish(
            files, name=f"name-{mark}", tenant=str(owner.tenant), user=owner.name, role=owner.role
        )
        expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        token, opened = self.publisher.links.make(made, expires_at=expires_at, label=f"label-{mark}", **link)
        self.secrets.extend((token, mark))
        sums = self.control.rows(
            "SELECT sha256 FROM export_control.export_files WHERE request_id = %(id)s", {"id": made}
        )
        marks = (mark, token, opened.id, f"run-{made}", *(row["sha256"] for row in sums))
        return Made(id=made, link_id=opened.id, token=token, marks=marks)

    def save(self, what: str, who: str = "ann") -> Made:
        """A schedule, a paused one, a template or a bulk order of somebody's."""
        if what == "batch":
            order = self.ask(who, "POST", "/api/v1/exports/bulk", json={"export_type": "full_backup"})
            made, jobs = order.json()["batch_id"], order.json()["job_ids"]
            return Made(id=made, link_id=made, token="", marks=tuple(jobs))
        mark = secrets.token_hex(8)
        path, wanted = (TEMPLATES, TEMPLATE) if what == "template" else (SCHEDULES, NIGHTLY)
        answer = self.ask(who, "POST", path, json={**wanted, "name": f"name-{mark}"})
        assert answer.status_code == 201, answer.text
        made: str = answer.json()["id"]
        if what == "paused schedule":
            assert self.ask(who, "POST", f"{path}/{made}/pause").status_code == 200
        return Made(id=made, link_id=made, token="", marks=(mark,))

    def queue(self, who: str = "ann") -> str:
        """The id of an export that waits."""
        owner = PEOPLE[who]
        return self.publisher.requests.insert(
            tenant_id=str(owner.tenant), config=PETS, requested_by=owner.name, requested_role=owner.role
        )

    def state(self) -> dict[str, Any]:
        """A sum over every row of every table, but of what an attempt itself may write: the audit log, and buckets.

        When a run was asked for is left out: an order's answer does not wait for that.
        """
        names = [
            row["relname"]
            for row in self.control.rows(
                "SELECT relname FROM pg_class WHERE relnamespace = 'export_control'::regnamespace AND relkind = 'r'"
            )
        ]
        return {
            name: self.control.rows(
                f"SELECT md5(string_agg(r, '|' ORDER BY r)) AS sum"
                f" FROM (SELECT (to_jsonb(t) - 'asked_at')::text AS r FROM export_control.{name} t) AS rows"
            )[0]["sum"]
            for name in names
            if name not in ("audit_log", "rate_limits", "api_keys")
        }


def reveals(answer: httpx.Response, made: Made) -> list[str]:
    """Which marks of a foreign export an answer holds, anywhere. Ids that the caller sent itself are no news."""
    reported = f"{answer.text}\n{answer.headers}"
    asked = str(answer.request.url)
    return [mark for mark in made.marks if mark in reported and mark not in asked]


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer, after a look at its form."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["request_id"]) == (status, answer.headers["x-request-id"])
    assert document["type"].startswith("urn:export-pipelines:problem:")
    assert {"title", "detail"} <= set(document)
    return document


def is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
