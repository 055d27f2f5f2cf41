"""Who may do what: the roles of callers, in one place.

The database repeats the part about rows as policies (``stores/schema``): a member sees its own exports, an admin
those of its tenant, an operator none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from export_pipelines.core.errors import NotAllowed


class Role(StrEnum):
    MEMBER = "member"
    ADMIN = "admin"
    OPERATOR = "operator"


class Action(StrEnum):
    """What a caller asks for; also the name it has in the audit log."""

    SEE_CATALOG = "catalog.read"
    ESTIMATE = "export.estimate"
    CREATE = "export.create"
    BULK = "batch.create"
    SEE_BATCH = "batch.read"
    LIST = "export.list"
    READ = "export.read"
    DOWNLOAD = "export.download"
    SHARE = "export.share"
    REVOKE = "export.revoke_link"
    VALIDATE = "export.validate"
    CONVERT = "export.convert"
    RETRY = "export.retry"
    CANCEL = "export.cancel"
    DELETE = "export.delete"
    CLEAN_UP = "export.cleanup"
    SEE_QUEUE = "queue.read"
    SEE_AUDIT = "audit.read"
    SEE_METRICS = "metrics.read"
    SEE_SCHEDULES = "schedule.read"
    CREATE_SCHEDULE = "schedule.create"
    UPDATE_SCHEDULE = "schedule.update"
    DELETE_SCHEDULE = "schedule.delete"
    RUN_SCHEDULE = "schedule.run"
    PAUSE_SCHEDULE = "schedule.pause"
    RESUME_SCHEDULE = "schedule.resume"
    SEE_TEMPLATES = "template.read"
    CREATE_TEMPLATE = "template.create"
    UPDATE_TEMPLATE = "template.update"
    DELETE_TEMPLATE = "template.delete"

    @property
    def subject(self) -> str:
        """What kind of thing it is done to."""
        return self.value.partition(".")[0]


_OF_ADMINS = frozenset({Action.BULK, Action.SEE_BATCH, Action.CLEAN_UP, Action.SEE_QUEUE, Action.SEE_AUDIT})
_OF_TENANTS = frozenset(Action) - _OF_ADMINS - {Action.SEE_METRICS}

ALLOWED: dict[Role, frozenset[Action]] = {
    Role.MEMBER: _OF_TENANTS,
    Role.ADMIN: _OF_TENANTS | _OF_ADMINS,
    Role.OPERATOR: frozenset({Action.SEE_CATALOG, Action.SEE_QUEUE, Action.SEE_AUDIT, Action.SEE_METRICS}),
}

# What leaves a line in the audit log: changes, and tenants' data or the log itself handed out. Looking at a status does
# not; it is asked for every second.
AUDITED = frozenset(Action) - {
    Action.SEE_CATALOG,
    Action.ESTIMATE,
    Action.LIST,
    Action.READ,
    Action.SEE_BATCH,
    Action.SEE_QUEUE,
    Action.SEE_METRICS,
    Action.SEE_SCHEDULES,
    Action.SEE_TEMPLATES,
}


def is_own_name(user: str) -> bool:
    """Whether the service itself is called so: a key without a user, a command. Nobody else may be."""
    return user.partition(":")[0] in ("key", "jwt", "cli")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, once a credential has proved it."""

    role: Role
    tenant_id: str | None = None  # an operator has none
    user_id: str | None = None
    credential: str  # which key or issuer said so; never the secret

    @property
    def name(self) -> str:
        """Whom limits count and whom the history names."""
        return self.user_id or self.credential


def require(caller: Caller, action: Action) -> None:
    """`NotAllowed` naming the roles that may."""
    if action not in ALLOWED[caller.role]:
        roles = " or ".join(role for role in Role if action in ALLOWED[role])
        raise NotAllowed(f"{action} needs the role {roles}; this credential has the role {caller.role}")
