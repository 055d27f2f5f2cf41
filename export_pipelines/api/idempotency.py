"""Writes that carry an ``Idempotency-Key`` happen once, however often and however concurrently they are sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from export_pipelines.api.request_context import RequestContext, UnitOfWork
from export_pipelines.core.access import Action
from export_pipelines.core.errors import RequestRejected
from export_pipelines.stores.replies import Reply, ReplyStore


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a write answers."""

    status: int
    body: BaseModel
    headers: dict[str, str] = field(default_factory=dict)


def replayed(context: RequestContext, work: UnitOfWork, action: Action, key: str | None) -> JSONResponse | None:
    """What an earlier call with this key was answered, with its line in the audit log; None for the first one.

    To be asked before anything that costs: a call that is repeated because its answer was lost must not cost twice. Of
    calls at the same time all may get None here; `once` then lets one of them write.
    """
    found = _replies(context, work).find(context.caller, key) if key is not None else None
    if found is None:
        return None
    answered = _repeated(context, work, *found)
    context.note(work, action)
    return answered


def is_answered(context: RequestContext, work: UnitOfWork, key: str | None) -> bool:
    """Whether `once` would repeat an earlier answer, so that nothing needs to be made ready for a new one."""
    return key is not None and _replies(context, work).find(context.caller, key) is not None


def once(context: RequestContext, work: UnitOfWork, key: str | None, write: Callable[[], Answer]) -> JSONResponse:
    """Do it, or answer what the first call with this key was answered.

    In the transaction of the work: a second call with the same key waits until the first has committed. A call that
    fails keeps no reply. `RequestRejected` when the key was used for something else.
    """
    if key is None:
        return _response(_reply(write()))
    replies = _replies(context, work)
    if replies.begin(context.caller, key, context.fingerprint):
        reply = _reply(write())
        replies.finish(context.caller, key, reply)
        return _response(reply)
    found = replies.find(context.caller, key)
    assert found is not None  # or the key could have been taken
    return _repeated(context, work, *found)


def _replies(context: RequestContext, work: UnitOfWork) -> ReplyStore:
    return ReplyStore(work.control, context.services.secrets)


def _repeated(context: RequestContext, work: UnitOfWork, fingerprint: str, reply: Reply) -> JSONResponse:
    if fingerprint != context.fingerprint:
        raise RequestRejected(
            "was used for another call; use a new key for each thing you want done", field="Idempotency-Key"
        )
    work.detail["replayed"] = True
    return _response(reply, {"Idempotency-Replayed": "true"})


def _reply(answer: Answer) -> Reply:
    body: dict[str, Any] = answer.body.model_dump(mode="json")
    return Reply(status=answer.status, headers=answer.headers, body=body)


def _response(reply: Reply, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(reply.body, reply.status, {**reply.headers, **(headers or {})})
