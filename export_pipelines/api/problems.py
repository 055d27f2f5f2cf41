"""Errors as answers: RFC 9457 problem documents for programs, pages for people behind a link.

The only place that maps our errors to HTTP statuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from export_pipelines.api.pages import PAGE_HEADERS, problem_page
from export_pipelines.core.errors import (
    Cancelled,
    Conflict,
    ExportError,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    ObjectMissing,
    RequestRejected,
    TooMany,
    Unavailable,
)
from export_pipelines.core.rejection import told

MEDIA_TYPE = "application/problem+json"
LINKS = "/d/"  # below it people look at pages
_TYPE = "urn:export-pipelines:problem:"
_KINDS = {  # slug of the type, title
    HTTPStatus.BAD_REQUEST: ("malformed", "Malformed request"),
    HTTPStatus.UNAUTHORIZED: ("not-authenticated", "Not authenticated"),
    HTTPStatus.FORBIDDEN: ("not-allowed", "Not allowed"),
    HTTPStatus.NOT_FOUND: ("not-found", "Not found"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method-not-allowed", "Method not allowed"),
    HTTPStatus.REQUEST_TIMEOUT: ("timeout", "Request too slow"),
    HTTPStatus.CONFLICT: ("conflict", "Not in this state"),
    HTTPStatus.GONE: ("gone", "Gone"),
    HTTPStatus.PRECONDITION_FAILED: ("other-version", "Another version"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too-large", "Body too large"),
    HTTPStatus.REQUEST_URI_TOO_LONG: ("target-too-long", "Request target too long"),
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: ("range", "Range not satisfiable"),
    HTTPStatus.UNPROCESSABLE_ENTITY: ("invalid", "Invalid value"),
    HTTPStatus.TOO_MANY_REQUESTS: ("too-many", "Too many requests"),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("header-too-large", "Header too large"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("unavailable", "Unavailable"),
}
_INTERNAL = ("internal", "Internal error")
_PUBLIC_NAMES = {"request_id": "job_id", "config": "body"}  # of fields; a request is called a job here
_STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (  # the first that fits
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (NotAuthenticated, HTTPStatus.UNAUTHORIZED),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (TooMany, HTTPStatus.TOO_MANY_REQUESTS),
    (RequestRejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Cancelled, HTTPStatus.CONFLICT),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (ObjectMissing, HTTPStatus.GONE),
)
_RETRY_SECONDS = 30  # when a part of the service does not answer
_ADVICE = {
    HTTPStatus.NOT_FOUND: ("This link does not work", "It is unknown, has expired or was revoked. Ask for a new one."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Not available right now", "The service cannot reach its data. Try again soon."),
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        "This file cannot be read",
        "Something is wrong on our side. Tell whoever sent you the link.",
    ),
    HTTPStatus.GONE: (
        "This file is gone",
        "It is no longer where it was stored. Ask whoever sent you the link for a new export.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: ("Too many tries", "Wait a minute, then try again."),
}
_log = structlog.get_logger(__name__)


class ResponseCut(Exception):
    """A response that has begun cannot be finished, for a reason that is no fault of this service."""


class FieldProblem(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="Stable: what kind of problem it is.", examples=[f"{_TYPE}not-found"])
    title: str
    status: int
    detail: str = Field(description="What is wrong with which value, and what to do.")
    field: str | None = Field(default=None, description="Path of the offending value.")
    errors: list[FieldProblem] | None = Field(default=None, description="All offending values, when there are several.")
    request_id: str | None = Field(default=None, description="Names this call in the service's log.")


ANSWERS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": "The caller must change something."},
    "5XX": {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": "The service cannot do it now."},
}


def add_handlers(app: FastAPI) -> None:
    """Every error that somebody foresaw leaves the application through one of these, the others by `unforeseen`."""
    app.add_exception_handler(ExportError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _unknown)


def _refused(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    headers: dict[str, str] = {}
    if isinstance(error, TooMany):
        headers = {"Retry-After": str(math.ceil(error.retry_after_seconds)), **error.fields}
    if isinstance(error, NotAuthenticated):
        reason = f', error="{error.reason}"' if error.reason else ""
        headers["WWW-Authenticate"] = f'Bearer realm="export-pipelines"{reason}'
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status is HTTPStatus.GONE:
        _log.error("call_failed", error_type=type(error).__name__, error=str(error))
    if not isinstance(error, RequestRejected) and status is not HTTPStatus.CONFLICT:
        return answer(request, status, _public(status), headers=headers)
    if not isinstance(error, RequestRejected) or error.field is None:
        return answer(request, status, str(error), headers=headers)
    field = _PUBLIC_NAMES.get(error.field, error.field)
    return answer(request, status, f"{field}: {error.message}", headers=headers, field=field)


def _malformed(request: Request, error: Exception) -> Response:
    """What the framework refused: a body that is no JSON, or values of another form than documented."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(problem["type"] == "json_invalid" for problem in found):
        return answer(request, HTTPStatus.BAD_REQUEST, "the body is not JSON")
    problems = [_problem_of(problem, request) for problem in found]
    first = problems[0]
    detail = f"{first.field}: {first.message}"
    return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, field=first.field, errors=problems)


def _problem_of(problem: Any, request: Request) -> FieldProblem:
    """``body.filters.date_range`` is said without the ``body``, and without names of Python's types."""
    part = problem["loc"][0]
    body = getattr(request.scope.get("route"), "body_field", None) if part == "body" else None
    place, sentence = told(problem, body.field_info.annotation if body else None, skip=1)
    return FieldProblem(field=place or str(part), message=sentence)


def _unknown(request: Request, error: Exception) -> Response:
    """Addresses, methods and bodies that the framework does not know."""
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.NOT_FOUND))
    detail = getattr(error, "detail", "")
    headers = dict(getattr(error, "headers", None) or {})
    return answer(request, status, detail if detail != status.phrase else _hint(status), headers=headers)


def unforeseen(request: Request, error: Exception) -> Response:
    """For `RequestMiddleware`, which is further out than where the framework would look for a handler."""
    _log.error("call_broke", error_type=type(error).__name__, exc_info=error)
    return answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, _public(HTTPStatus.INTERNAL_SERVER_ERROR))


def _hint(status: HTTPStatus) -> str:
    return {
        HTTPStatus.NOT_FOUND: "there is nothing at this address; /api/openapi.json lists them all",
        HTTPStatus.METHOD_NOT_ALLOWED: "this address does not know this method; the Allow field lists them",
    }.get(status, status.phrase)


def _public(status: HTTPStatus) -> str:
    """What an outsider is told of an error inside; the log has the rest under the request's id."""
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        return "a part of the service does not answer; try again after the time in Retry-After"
    if status is HTTPStatus.GONE:
        return (
            "a file of this export is no longer in the object store: it was removed there, or the service was given "
            "another store; order the export again, or give the operator the request_id"
        )
    return "the service failed; give its operator the request_id"


def problem_document(status: HTTPStatus, detail: str) -> Problem:
    slug, title = _KINDS.get(status, _INTERNAL)
    return Problem(type=_TYPE + slug, title=title, status=status, detail=detail)


def answer(
    request: Request,
    status: HTTPStatus,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    field: str | None = None,
    errors: list[FieldProblem] | None = None,
) -> Response:
    """A problem document; a page where people look at pages."""
    if request.url.path.startswith(LINKS):
        title, advice = _ADVICE.get(status, (status.phrase, "Check the address."))
        return HTMLResponse(problem_page(title, advice), status, {**PAGE_HEADERS, **(headers or {})})
    problem = problem_document(status, detail).model_copy(
        update={"field": field, "errors": errors, "request_id": request.scope.get("state", {}).get("request_id")}
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, {**(headers or {})}, media_type=MEDIA_TYPE)
