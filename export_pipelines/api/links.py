"""The pages and files behind a link. Its token is the credential, with a password where its maker set one.

Looking at a page changes nothing, so mail scanners and link previews do no harm; a download that begins is a use.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from export_pipelines.api.files import archive_of, file_response, package_response
from export_pipelines.api.link_passwords import MAX_PASSWORD, proof_of, verify_password
from export_pipelines.api.pages import PAGE_HEADERS, listing_page, password_page, problem_page
from export_pipelines.api.password_guesses import guarded
from export_pipelines.api.request_context import body_of, origin_of, services_of
from export_pipelines.api.services import ApiServices
from export_pipelines.core.access import Action
from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.naming import download_folder, download_name
from export_pipelines.stores.audit import AuditLog
from export_pipelines.stores.links import LinkedExport, LinkStore

COOKIE = "link"
COOKIE_SECONDS = 3600
_NO_LINK = ("This link does not work", "It is unknown, has expired or was revoked. Ask for a new one.")
_NO_FILE = ("There is no such file", "Open the link without the file's name to see what it holds.")
_USED_UP = ("This link is used up", "Its files were downloaded as often as its maker allowed. Ask for a new one.")
_METHODS = ["GET", "HEAD"]
_SERVING = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.FOUND)  # a 200 may yet become a 206

router = APIRouter(prefix="/d", include_in_schema=False)
Services = Annotated[ApiServices, Depends(services_of)]
Basic = Annotated[HTTPBasicCredentials | None, Depends(HTTPBasic(auto_error=False, realm="link"))]


@router.api_route("/{token}", methods=_METHODS)
def show_link(request: Request, token: str, services: Services, basic: Basic) -> Response:
    export = _find(request, services, token)
    if export is None:
        return _page(HTTPStatus.NOT_FOUND, *_NO_LINK)
    if not _unlocked(request, services, token, export, basic):
        return HTMLResponse(password_page(wrong=False), headers=PAGE_HEADERS)
    return HTMLResponse(listing_page(token, export, export.files, whole=whole_name(export)), headers=PAGE_HEADERS)


@router.post("/{token}")
def unlock_link(request: Request, token: str, services: Services, body: Annotated[bytes, Depends(body_of)]) -> Response:
    """The right password sets a cookie for this link alone, for an hour."""
    export = _find(request, services, token)
    if export is None:
        return _page(HTTPStatus.NOT_FOUND, *_NO_LINK)
    if export.password_hash is None:
        return _page(HTTPStatus.METHOD_NOT_ALLOWED, "This link has no password", "Open it as it is.")
    password = parse_qs(body.decode(errors="replace")).get("password", [""])[0]
    if not _opens(request, services, export, password):
        return HTMLResponse(password_page(wrong=True), HTTPStatus.FORBIDDEN, headers=PAGE_HEADERS)
    path = f"/d/{quote(token, safe='')}"
    response = RedirectResponse(path, HTTPStatus.SEE_OTHER, headers=PAGE_HEADERS)
    response.set_cookie(
        COOKIE,
        proof_of(token, export.password_hash),
        max_age=COOKIE_SECONDS,
        path=path,
        secure=services.base_url.startswith("https:") or request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response


@router.api_route("/{token}/{path:path}", methods=_METHODS)
def download_by_link(request: Request, token: str, path: str, services: Services, basic: Basic) -> Response:
    export = _find(request, services, token)
    if export is None:
        return _page(HTTPStatus.NOT_FOUND, *_NO_LINK)
    if not _unlocked(request, services, token, export, basic):
        headers = {"WWW-Authenticate": 'Basic realm="link", charset="UTF-8"'}
        return HTMLResponse(password_page(wrong=False), HTTPStatus.UNAUTHORIZED, {**PAGE_HEADERS, **headers})
    file = next((file for file in export.files if file["path"] == path), None)
    if file is None and path != whole_name(export):
        return _page(HTTPStatus.NOT_FOUND, *_NO_FILE)
    resumable = export.uses_left is None  # a part of a file can be nearly the whole of it, so it is a use as well
    try:
        if file is not None:
            response = file_response(request, file, services, PAGE_HEADERS, resumable=resumable)
        else:
            folder = download_folder(export.name or "", export.request_id)
            response = package_response(
                request, export.files, folder, services.store, PAGE_HEADERS, resumable=resumable
            )
    except IntegrityViolation:
        if _find(request, services, token) is None:  # deleted meanwhile
            return _page(HTTPStatus.NOT_FOUND, *_NO_LINK)
        raise
    if response.status_code in _SERVING and not _count_use(request, services, token, export):
        return _page(HTTPStatus.GONE, *_USED_UP)
    return response


def whole_name(export: LinkedExport) -> str | None:
    """Under which path the whole package is one ZIP; None where it is an archive already."""
    return None if archive_of(export.files) else download_name(export.name or "", export.request_id, "zip")


def _find(request: Request, services: ApiServices, token: str) -> LinkedExport | None:
    with services.pool.tenant_session(None) as control:
        export = LinkStore(control).follow(token)
    request.state.tenant_id = export.tenant_id if export else None  # for the log
    return export


def _count_use(request: Request, services: ApiServices, token: str, export: LinkedExport) -> bool:
    """Count a response that serves bytes, whatever its range, and note it in the audit log; false: none is left."""
    if request.method != "GET":
        return True
    with services.pool.tenant_session(None) as control:
        if not LinkStore(control).use(token):
            return False
        AuditLog(control).append(
            Action.DOWNLOAD,
            caller=None,
            tenant_id=export.tenant_id,
            target=("export", export.request_id),
            origin=origin_of(request),
            detail={"link": export.link_id},
        )
    return True


def _unlocked(
    request: Request, services: ApiServices, token: str, export: LinkedExport, basic: HTTPBasicCredentials | None
) -> bool:
    """By no password, by the cookie of `unlock_link`, or by HTTP Basic with any user name, as `curl -u :password`."""
    if export.password_hash is None:
        return True
    shown = request.cookies.get(COOKIE, "")
    if hmac.compare_digest(shown.encode(), proof_of(token, export.password_hash).encode()):
        return True
    return basic is not None and _opens(request, services, export, basic.password)


def _opens(request: Request, services: ApiServices, export: LinkedExport, password: str) -> bool:
    """`TooMany` where somebody at this address guesses, see `export_pipelines.api.password_guesses`."""
    password_hash = export.password_hash
    if password_hash is None:
        return True
    if len(password) > MAX_PASSWORD:
        return False
    return guarded(
        services.pool, export.link_id, origin_of(request).ip, lambda: verify_password(password_hash, password)
    )


def _page(status: HTTPStatus, title: str, advice: str) -> HTMLResponse:
    return HTMLResponse(problem_page(title, advice), status, PAGE_HEADERS)
