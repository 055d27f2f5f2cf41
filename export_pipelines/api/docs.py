"""Interactive documentation at `/api/docs`: Swagger UI from this machine, so nothing is fetched from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from export_pipelines.core.configuration import DeliveryTarget
from export_pipelines.destinations.registry import all_destinations

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


def describe_deliveries(app: FastAPI) -> None:
    """Have the document say what an entry of `delivery` is for each kind of destination there is."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = plain()["components"]["schemas"]
            mapping = {}
            for spec in all_destinations().values():
                schema = spec.target.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {})
                schemas[spec.target.__name__] = {**schema, "examples": [dict(spec.example)]}
                mapping[spec.name] = f"#/components/schemas/{spec.target.__name__}"
            schemas[DeliveryTarget.__name__] = {
                "title": DeliveryTarget.__name__,
                "oneOf": [{"$ref": reference} for reference in mapping.values()],
                "discriminator": {"propertyName": "method", "mapping": mapping},
            }
        return plain()

    setattr(app, "openapi", described)  # noqa: B010 - as FastAPI's documentation has it; a type checker refuses `=`


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
