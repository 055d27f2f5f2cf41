"""One call of the API: who asks, and a transaction in the caller's name with all that a route needs in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AwareDatetime, BeforeValidator
from starlette.datastructures import URL

from export_pipelines.api.services import ApiServices
from export_pipelines.core.access import AUDITED, Action, Caller, require
from export_pipelines.core.audit import Origin, Outcome
from export_pipelines.core.errors import RequestRejected, TooMany, Unavailable
from export_pipelines.core.model import TenantScope
from export_pipelines.core.rejection import called_here
from export_pipelines.core.suggestions import did_you_mean
from export_pipelines.stores.audit import AuditLog
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.links import LinkStore
from export_pipelines.stores.request_history import History
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.schedules import ScheduleStore
from export_pipelines.stores.templates import TemplateStore
from export_pipelines.stores.tenant_session import OpenTransaction


@dataclass(kw_only=True)
class UnitOfWork:
    """A transaction in the caller's name. What it changes and what it says about it in the audit log go together."""

    control: OpenTransaction
    requests: RequestStore
    history: History
    deliveries: DeliveryStore
    links: LinkStore
    schedules: ScheduleStore
    templates: TemplateStore
    target: str | None = None  # the thing it was about, once known
    detail: dict[str, Any] = field(default_factory=dict)  # what the audit log says beside that

    @classmethod
    def on(cls, control: OpenTransaction, services: ApiServices) -> UnitOfWork:
        return cls(
            control=control,
            requests=RequestStore(control, services.secrets),
            history=History(control),
            deliveries=DeliveryStore(control),
            links=LinkStore(control),
            schedules=ScheduleStore(control, services.secrets, late_after=services.settings.schedule_late_after),
            templates=TemplateStore(control),
        )


@dataclass(frozen=True, kw_only=True)
class RequestContext:
    """An authenticated call."""

    services: ApiServices
    caller: Caller
    origin: Origin
    fingerprint: str  # of method, path and body
    url: URL

    @contextmanager
    def unit_of_work(self, action: Action, target: str | None = None) -> Iterator[UnitOfWork]:
        """Everything a call does in the control database: one transaction, committed with its line in the audit log.

        Refused as by `attempting`.
        """
        with self.attempting(action, target), self.transaction(target) as work:
            yield work
            self.note(work, action)

    @contextmanager
    def attempting(self, action: Action, target: str | None = None) -> Iterator[None]:
        """What takes more than one transaction, with its line in the audit log when it is refused or breaks.

        `NotAllowed` when the caller's role does not include the action. Nothing is noted where a limit or an outage
        stopped it: a flood of those must not become a flood of lines. What succeeds is noted in its transaction.
        """
        try:
            require(self.caller, action)
            yield
        except (TooMany, Unavailable):
            raise
        except Exception as error:
            outcome = Outcome.REFUSED if isinstance(error, RequestRejected) else Outcome.FAILED
            with self.services.pool.tenant_session(self.caller) as control:
                self._note(control, action, target, outcome, {"error": type(error).__name__})
            raise

    @contextmanager
    def transaction(self, target: str | None = None) -> Iterator[UnitOfWork]:
        """One transaction in the caller's name, without a line in the audit log unless `note` writes it."""
        with self.services.pool.tenant_session(self.caller) as control:
            work = UnitOfWork.on(control, self.services)
            work.target = target
            yield work

    def note(self, work: UnitOfWork, action: Action) -> None:
        """The line of an action that succeeds with this transaction."""
        self._note(work.control, action, work.target, Outcome.OK, work.detail)

    def _note(
        self, control: OpenTransaction, action: Action, target: str | None, outcome: Outcome, detail: dict[str, Any]
    ) -> None:
        if action not in AUDITED:
            return
        AuditLog(control).append(
            action,
            caller=self.caller,
            target=(action.subject, target) if target else None,
            outcome=outcome,
            origin=self.origin,
            detail=detail,
        )

    @property
    def scope(self) -> TenantScope:
        """The caller's tenant, for whatever reads its data."""
        return TenantScope(tenant_id=self.tenant_id)

    @property
    def tenant_id(self) -> str:
        """The caller's tenant; only roles that have one get as far as asking for it."""
        assert self.caller.tenant_id is not None
        return self.caller.tenant_id


def require_known_parameters(request: Request) -> None:
    """`RequestRejected` for a query parameter that the route does not take: left unread it would seem to work.

    Part of `open_request_context`, so that whoever is unknown is told that first; routes without one depend on it.
    """
    known = _query_parameters(request.scope["route"].dependant)
    for name in request.query_params:
        if name not in known:
            shown = name[:_SHOWN_CHARACTERS]
            here = {theirs: ours for theirs, ours in _FOREIGN_PARAMETERS.items() if ours in known}
            choices = f"choose from {', '.join(known)}" if known else "there are none here; leave it out"
            said = called_here(shown, here) or f"is not a known query parameter; {choices}{did_you_mean(shown, known)}"
            raise RequestRejected(said, field=shown if _WORD.fullmatch(shown) else "query")


def _query_parameters(dependant: Dependant) -> list[str]:
    """Those of a route and of all that it depends on."""
    inner = [name for further in dependant.dependencies for name in _query_parameters(further)]
    return [*(parameter.alias for parameter in dependant.query_params), *inner]


def services_of(request: Request) -> ApiServices:
    return cast("ApiServices", request.app.state.services)


def origin_of(request: Request) -> Origin:
    """Where a call came from, as the server was told; behind a proxy it trusts, what that proxy says."""
    return Origin(
        ip=request.client.host if request.client else None,
        user_agent=request.headers.get("user-agent"),
        http_request_id=request.scope["state"]["request_id"],
    )


async def body_of(request: Request) -> bytes:
    """The bytes as they came; the framework has read them already."""
    return await request.body()


# Only tells the document that a bearer token is needed; `open_request_context` reads the field itself.
Described = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(HTTPBearer(auto_error=False, scheme_name="bearer", description="An API key, or a JWT of the application.")),
]


def open_request_context(
    request: Request,
    services: Annotated[ApiServices, Depends(services_of)],
    body: Annotated[bytes, Depends(body_of)],
    _described: Described,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> RequestContext:
    """`NotAuthenticated` without a credential that proves who asks."""
    origin = origin_of(request)
    caller = services.authenticate(authorization, origin.ip)
    request.state.tenant_id = caller.tenant_id  # for the log
    require_known_parameters(request)
    signed = b"\0".join((request.method.encode(), request.url.path.encode(), body))
    return RequestContext(
        services=services,
        caller=caller,
        origin=origin,
        url=request.url,
        fingerprint=hashlib.sha256(signed).hexdigest(),
    )


CurrentRequest = Annotated[RequestContext, Depends(open_request_context)]

_SHOWN_CHARACTERS = 63  # of a name in a message
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_FOREIGN_PARAMETERS = {
    **dict.fromkeys(("page_size", "per_page", "size", "count", "top"), "limit"),
    **dict.fromkeys(("page", "after", "next", "offset", "next_cursor"), "cursor"),
    **dict.fromkeys(("since", "from", "start", "start_date", "date_from"), "created_from"),
    **dict.fromkeys(("until", "to", "end", "end_date", "date_to"), "created_to"),
    **dict.fromkeys(("user_id", "requested_by", "owner"), "user"),
    "state": "status",
    "schedule_id": "schedule",
}

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _written_out(text: Any) -> Any:
    """A bare number would pass as seconds since 1970, which nobody means and the document does not say."""
    if isinstance(text, str) and not _DATE.match(text):
        raise ValueError("is not an instant such as 2024-01-31T12:00:00Z")
    return text


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]
STORED_TEXT = r"^[^\x00]*$"  # what the database can compare with
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text of yours. A repeated call with the same key and body answers what the first one did.",
    ),
]
