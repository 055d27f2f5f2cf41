"""Writes that carry an ``Idempotency-Key`` happen once, however often and however concurrently they are sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from export_pipelines.api.request_context import RequestContext, UnitOfWork
from export_pipelines.core.errors import RequestRejected
from export_pipelines.stores.replies import Reply, ReplyStore


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a write answers."""

    status: int
    body: BaseModel
    headers: dict[str, str] = field(default_factory=dict)


def once(context: RequestContext, work: UnitOfWork, key: str | None, write: Callable[[], Answer]) -> JSONResponse:
    """Do it, or answer what the first call with this key was answered.

    In the transaction of the work: a second call with the same key waits until the first has committed. A call that
    fails keeps no reply. `RequestRejected` when the key was used for something else.
    """
    if key is None:
        return _response(_reply(write()))
    replies = ReplyStore(work.control, context.services.secrets)
    if replies.begin(context.caller, key, context.fingerprint):
        reply = _reply(write())
        replies.finish(context.caller, key, reply)
        return _response(reply)
    fingerprint, reply = replies.find(context.caller, key)
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
