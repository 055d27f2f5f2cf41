"""What each route of the API allows to each role. A route that is not in here fails the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from export_pipelines.core.access import Role
from export_pipelines_tests.api.site import JOBS, NIGHTLY, PETS, SCHEDULES, TEMPLATE, TEMPLATES, Made, Site

TENANTS = frozenset({Role.MEMBER, Role.ADMIN})
OVERSIGHT = frozenset({Role.ADMIN, Role.OPERATOR})
EVERYBODY = frozenset(Role)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Who may call a route, and what a call of it that is in order looks like."""

    roles: frozenset[Role]
    body: Callable[[Made], Any] | None = None  # made for an export of the caller, which ids in it must name
    state: str = "completed"  # of the export in the path, so that the call succeeds
    owner: str = "ann"  # of the thing in the path
    saved: str | None = None  # what the path names in place of an export: see `Site.save`
    answers: int = 200


RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/api/v1/exports/catalog"): Rule(roles=EVERYBODY),
    ("POST", "/api/v1/exports/estimate"): Rule(roles=TENANTS, body=lambda _made: PETS),
    ("POST", JOBS): Rule(roles=TENANTS, body=lambda _made: PETS, answers=202),
    ("GET", JOBS): Rule(roles=TENANTS),
    ("GET", JOBS + "/{job_id}"): Rule(roles=TENANTS),
    ("DELETE", JOBS + "/{job_id}"): Rule(roles=TENANTS),
    ("GET", JOBS + "/{job_id}/status"): Rule(roles=TENANTS),
    ("GET", JOBS + "/{job_id}/events"): Rule(roles=TENANTS),
    # 422: these packages were published without a run, so nothing was kept that could be converted.
    ("POST", JOBS + "/{job_id}/convert"): Rule(
        roles=TENANTS, body=lambda _made: {"target_format": "ndjson"}, answers=422
    ),
    ("POST", JOBS + "/{job_id}/validate"): Rule(roles=TENANTS, body=lambda _made: {}),
    ("GET", JOBS + "/{job_id}/metadata"): Rule(roles=TENANTS),
    ("POST", JOBS + "/{job_id}/cancel"): Rule(roles=TENANTS, state="queued", answers=202),
    ("POST", JOBS + "/{job_id}/retry"): Rule(roles=TENANTS, state="cancelled", answers=202),
    ("GET", JOBS + "/{job_id}/download"): Rule(roles=TENANTS),
    ("HEAD", JOBS + "/{job_id}/download"): Rule(roles=TENANTS),
    ("GET", JOBS + "/{job_id}/download/{index}"): Rule(roles=TENANTS),
    ("HEAD", JOBS + "/{job_id}/download/{index}"): Rule(roles=TENANTS),
    ("POST", JOBS + "/{job_id}/share"): Rule(roles=TENANTS, body=lambda _made: {"ttl_hours": 1}, answers=201),
    ("GET", JOBS + "/{job_id}/share"): Rule(roles=TENANTS),
    ("DELETE", JOBS + "/{job_id}/share/{link_id}"): Rule(roles=TENANTS),
    ("POST", SCHEDULES): Rule(roles=TENANTS, body=lambda _made: NIGHTLY, answers=201),
    ("GET", SCHEDULES): Rule(roles=TENANTS),
    ("GET", SCHEDULES + "/{schedule_id}"): Rule(roles=TENANTS, saved="schedule"),
    ("PUT", SCHEDULES + "/{schedule_id}"): Rule(roles=TENANTS, saved="schedule", body=lambda _made: NIGHTLY),
    ("DELETE", SCHEDULES + "/{schedule_id}"): Rule(roles=TENANTS, saved="schedule"),
    ("POST", SCHEDULES + "/{schedule_id}/run"): Rule(roles=TENANTS, saved="schedule", answers=202),
    ("POST", SCHEDULES + "/{schedule_id}/pause"): Rule(roles=TENANTS, saved="schedule"),
    ("POST", SCHEDULES + "/{schedule_id}/resume"): Rule(roles=TENANTS, saved="paused schedule"),
    ("POST", TEMPLATES): Rule(roles=TENANTS, body=lambda _made: TEMPLATE, answers=201),
    ("GET", TEMPLATES): Rule(roles=TENANTS),
    ("GET", TEMPLATES + "/{template_id}"): Rule(roles=TENANTS, saved="template"),
    ("PUT", TEMPLATES + "/{template_id}"): Rule(roles=TENANTS, saved="template", body=lambda _made: TEMPLATE),
    ("DELETE", TEMPLATES + "/{template_id}"): Rule(roles=TENANTS, saved="template"),
    ("POST", TEMPLATES + "/{template_id}/run"): Rule(roles=TENANTS, saved="template", answers=202),
    ("POST", "/api/v1/exports/bulk"): Rule(
        roles=frozenset({Role.ADMIN}), body=lambda _made: {"export_type": "full_backup"}, answers=202
    ),
    ("GET", "/api/v1/exports/batches/{batch_id}"): Rule(roles=frozenset({Role.ADMIN}), saved="batch", owner="chief"),
    ("POST", "/api/v1/exports/cleanup"): Rule(
        roles=frozenset({Role.ADMIN}), body=lambda _made: {"older_than_days": 30_000, "dry_run": True}
    ),
    ("GET", "/api/v1/exports/queue/stats"): Rule(roles=OVERSIGHT),
    ("GET", "/api/v1/audit"): Rule(roles=OVERSIGHT),
    ("GET", "/metrics"): Rule(roles=frozenset({Role.OPERATOR})),
}

# Without a credential, and nothing of a tenant in it.
PUBLIC = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/.well-known/export-pipelines/keys.json"),
}

# Routes that take something of a tenant by its id in the body.
BY_BODY: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "order a conversion": ("POST", JOBS, lambda other: {"convert": other, "format": "ndjson"}),
    "estimate a conversion": ("POST", "/api/v1/exports/estimate", lambda other: {"convert": other, "format": "ndjson"}),
    "schedule a template": (
        "POST",
        SCHEDULES,
        lambda other: {**{name: NIGHTLY[name] for name in ("name", "cron")}, "template_id": other},
    ),
}


def prepared(site: Site, rule: Rule) -> Made:
    """Something of the owner's that the route can work on."""
    owner = rule.owner
    if rule.saved:
        return site.save(rule.saved, owner)
    if rule.state == "completed":
        return site.publish(owner)
    waiting = site.queue(owner)
    if rule.state == "cancelled":
        site.publisher.requests.request_cancel(waiting)
    return Made(id=waiting, link_id=waiting, token="", marks=())


def filled(path: str, made: Made) -> str:
    """The path with ids in it; an id of another kind needs a value here."""
    return path.format(
        job_id=made.id, schedule_id=made.id, template_id=made.id, batch_id=made.id, link_id=made.link_id, index=0
    )
