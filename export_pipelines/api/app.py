"""The application that answers download links.

A link's token is the credential: unknown, expired and revoked ones all answer 404. Files go out through short
presigned URLs where the store has them, else they are streamed with Range support.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from html import escape
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from export_pipelines.core.errors import Unavailable
from export_pipelines.pipeline.assembly import open_object_store
from export_pipelines.settings import Settings, load_settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore

_HEADERS = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application; settings come from the environment unless given."""
    settings = settings or load_settings()
    control = ControlDatabase(settings.require_control_url())
    deliveries, store = DeliveryStore(control), open_object_store(settings)
    app = FastAPI(title="Export Pipelines", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(Unavailable)
    def unavailable(_request: Request, _error: Unavailable) -> JSONResponse:
        return JSONResponse({"title": "The service is not available; try again in a minute"}, 503, {"Retry-After": "60"})

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    def files_behind(token: str) -> list[dict[str, Any]]:
        request_id = deliveries.follow_link(token)
        files = deliveries.files_of(request_id) if request_id else []
        if not files:
            raise HTTPException(404, "This link is unknown, has expired or was revoked. Ask for a new one.")
        return files

    @app.get("/d/{token}")
    def listing(token: str) -> HTMLResponse:
        return HTMLResponse(_page(token, files_behind(token)), headers=_HEADERS)

    @app.get("/d/{token}/{path:path}")
    def download(token: str, path: str) -> Response:
        file = next((file for file in files_behind(token) if file["path"] == path), None)
        if file is None:
            raise HTTPException(404, "There is no such file behind this link.")
        filename = path.rsplit("/", 1)[-1]
        url = store.presigned_url(file["key"], ttl=settings.signed_url_lifetime, filename=filename)
        if url is not None:
            return RedirectResponse(url, 302, headers=_HEADERS)
        with ExitStack() as stack:
            stored = stack.enter_context(store.local(file["key"]))
            return FileResponse(
                stored,
                media_type=file["media_type"],
                filename=filename,
                headers={**_HEADERS, "ETag": f'"{file["sha256"]}"'},
            )

    return app


def _page(token: str, files: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><td><a href="/d/{quote(token)}/{quote(file["path"])}">{escape(file["path"])}</a></td>'
        f"<td>{file['rows']:,}</td><td>{file['size_bytes']:,}</td><td><code>{file['sha256'][:16]}…</code></td></tr>"
        for file in files
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Your export</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}}
table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #d8dee4}}
td:nth-child(2),td:nth-child(3),th:nth-child(2),th:nth-child(3){{text-align:right}}a{{color:#0b57d0}}</style>
<h1>Your export</h1><p>Every file was re-read and compared with the source before it was published.
Check them with <code>sha256sum -c SHA256SUMS</code>.</p>
<table><thead><tr><th>File</th><th>Rows</th><th>Bytes</th><th>SHA-256</th></tr></thead><tbody>{rows}</tbody></table></html>"""
