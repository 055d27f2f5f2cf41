"""How lists come in pages: what a caller says of the page it wants, and how it learns of the next one."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from export_pipelines.api.request_context import RequestContext

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=200)]
DEFAULT_LIMIT = 50


def link_next(context: RequestContext, response: Response, cursor: str | None) -> None:
    """The Link field (RFC 8288) with the address of the next page, where there is one."""
    if cursor:
        url = context.url.include_query_params(cursor=cursor)
        response.headers["Link"] = f'<{context.services.base_url}{url.path}?{url.query}>; rel="next"'
