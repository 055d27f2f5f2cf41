"""The application that answers download links.

A link's token is the credential: unknown, expired and revoked ones all answer 404. Files go out through short
presigned URLs where the store has them, else they are streamed with Range support. Reading a page or a file never
changes what others can read, so mail scanners and link previews do no harm.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from export_pipelines.api.pages import listing_page, problem_page
from export_pipelines.api.signing_keys import signing_keys_router
from export_pipelines.core.disposition import attachment
from export_pipelines.core.errors import ExportError, Unavailable
from export_pipelines.logs import configure_logs
from export_pipelines.pipeline.assembly import open_object_store
from export_pipelines.settings import Settings, load_settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore, LinkedExport
from export_pipelines.stores.signing_keys import SigningKeyStore

_HEADERS = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
_NO_LINK = ("This link does not work", "It is unknown, has expired or was revoked. Ask for a new one.")
_NO_FILE = ("There is no such file", "Open the link without the file's name to see what it holds.")
_DOWN = ("Not available right now", "The service cannot reach its data. Try again in a minute.")
_BROKEN = ("This file cannot be read", "Something is wrong on our side. Tell whoever sent you the link.")
_RETRY_SECONDS = "60"
_TOKEN_IN_PATH = re.compile(r"(/d/)[^/\s?]+")
_METHODS = ["GET", "HEAD"]
_log = structlog.get_logger(__name__)


class _MissingError(Exception):
    """Title and advice of a page that answers 404."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application; settings come from the environment unless given."""
    configure_logs(as_json=True)
    settings = settings or load_settings()
    control = ControlDatabase(settings.require_control_url())
    deliveries, store = DeliveryStore(control), open_object_store(settings)
    app = FastAPI(title="Export Pipelines", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(_MissingError, _missing)
    app.add_exception_handler(ExportError, _failure)
    app.include_router(signing_keys_router(SigningKeyStore(control).published))
    logging.getLogger("uvicorn.access").addFilter(_without_token)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/d/{token}", methods=_METHODS)
    def listing(token: str) -> HTMLResponse:
        export = _follow(deliveries, token)
        return HTMLResponse(listing_page(token, export, export.files), headers=_HEADERS)

    @app.api_route("/d/{token}/{path:path}", methods=_METHODS)
    def download(request: Request, token: str, path: str) -> Response:
        export = _follow(deliveries, token)
        file = next((file for file in export.files if file["path"] == path), None)
        if file is None:
            raise _MissingError(*_NO_FILE)
        headers = {**_HEADERS, **_describing(file)}
        filename = path.rsplit("/", 1)[-1]
        url = store.presigned_url(file["key"], ttl=settings.signed_url_lifetime, filename=filename)
        if url is None:
            with ExitStack() as stack:  # a local store's file outlives its context
                stored = stack.enter_context(store.local(file["key"]))
            return FileResponse(stored, media_type=file["media_type"], headers=headers)
        if request.method == "HEAD":  # a presigned URL is signed for GET only
            headers["Content-Length"] = str(file["size_bytes"])
            return Response(headers=headers, media_type=file["media_type"])
        return RedirectResponse(url, HTTPStatus.FOUND, headers=_HEADERS)

    return app


def _follow(deliveries: DeliveryStore, token: str) -> LinkedExport:
    export = deliveries.follow_link(token)
    if export is None:
        raise _MissingError(*_NO_LINK)
    return export


def _describing(file: Mapping[str, Any]) -> dict[str, str]:
    """What a client needs to name, resume and check a download."""
    digest = base64.b64encode(bytes.fromhex(file["sha256"])).decode()
    return {
        "Content-Disposition": attachment(file["path"].rsplit("/", 1)[-1]),
        "ETag": f'"{file["sha256"]}"',
        "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
        "Accept-Ranges": "bytes",
    }


def _missing(_request: Request, error: Exception) -> Response:
    return _page(HTTPStatus.NOT_FOUND, *error.args)


def _unknown(_request: Request, error: Exception) -> Response:
    """Addresses and methods that the framework does not know."""
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.NOT_FOUND))
    return _page(status, status.phrase, "Check the address.")


def _failure(_request: Request, error: Exception) -> Response:
    _log.error("download_failed", error_type=type(error).__name__, error=str(error))
    if isinstance(error, Unavailable):
        return _page(HTTPStatus.SERVICE_UNAVAILABLE, *_DOWN, {"Retry-After": _RETRY_SECONDS})
    return _page(HTTPStatus.INTERNAL_SERVER_ERROR, *_BROKEN)


def _page(status: HTTPStatus, title: str, advice: str, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    return HTMLResponse(problem_page(title, advice), status, {**_HEADERS, **(headers or {})})


def _without_token(record: logging.LogRecord) -> bool:
    """Tokens are credentials: the access log must not hold them."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            _TOKEN_IN_PATH.sub(r"\1…", value) if isinstance(value, str) else value for value in record.args
        )
    return True
