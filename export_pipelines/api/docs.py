"""Interactive documentation at `/api/docs`: Swagger UI from this machine, so nothing is fetched from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

DOCS = "/api/docs"
ASSETS, START = f"{DOCS}/assets", f"{DOCS}/start.js"
router = APIRouter(include_in_schema=False)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
# The framework's own page has this inside, where only a policy that lets any injected script run would allow it.
_START = """SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
});
"""
_PAGE = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Export Pipelines API</title>
<link rel="icon" href="{ASSETS}/favicon-32x32.png"><link rel="stylesheet" href="{ASSETS}/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script><script src="{START}"></script></body></html>
"""


def add_assets(app: FastAPI) -> None:
    """Serve the program's files that the package `fastapi-swagger` carries."""
    folder = str(files("fastapi_swagger") / "resources")
    app.mount(ASSETS, StaticFiles(directory=folder), name="docs-assets")


@router.get(DOCS)
def show_docs() -> HTMLResponse:
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get(START)
def start_docs() -> Response:
    return Response(_START, media_type="text/javascript")
