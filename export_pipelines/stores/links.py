"""Links: whoever has the token may download a package until it expires. Only the token's hash is kept."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Self

from export_pipelines.core.errors import NotFound
from export_pipelines.stores.control import Control


@dataclass(frozen=True, kw_only=True)
class LinkedExport:
    """What a download link leads to."""

    link_id: str
    request_id: str
    tenant_id: str
    name: str | None
    rows: int
    size_bytes: int
    completed_at: dt.datetime
    available_until: dt.datetime  # the link's end or the package's, whichever comes first
    password_hash: str | None
    uses_left: int | None  # None: any number
    files: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        texts = {name: str(row[name]) for name in ("link_id", "request_id")}
        return cls(**{**row, **texts, "files": tuple(row["files"])})


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link as its makers see it; the token was shown once."""

    id: str
    label: str | None
    created_by: str | None
    created_at: dt.datetime
    expires_at: dt.datetime
    revoked_at: dt.datetime | None
    has_password: bool
    max_uses: int | None
    uses: int
    last_used_at: dt.datetime | None


_LINK = """
    id::text, label, created_by, created_at, expires_at, revoked_at, has_password, max_uses, uses, last_used_at
"""


class LinkStore:
    """Makes, finds and revokes links. Whose requests it may reach is the transaction's business."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def make(
        self,
        request_id: str,
        *,
        expires_at: dt.datetime,
        password_hash: str | None = None,
        max_uses: int | None = None,
        label: str | None = None,
        created_by: str | None = None,
    ) -> tuple[str, Link]:
        """A new secret token for this request's package, and the link it opens."""
        token = secrets.token_urlsafe(32)
        rows = self._control.rows(
            f"""
            INSERT INTO export_control.export_links
                (request_id, token_sha256, expires_at, password_hash, max_uses, label, created_by)
            VALUES (%(request_id)s, %(hash)s, %(expires_at)s, %(password_hash)s, %(max_uses)s, %(label)s,
                    %(created_by)s)
            RETURNING {_LINK}
            """,  # noqa: S608 - a constant of this module
            {
                "request_id": request_id,
                "hash": token_hash(token),
                "expires_at": expires_at,
                "password_hash": password_hash,
                "max_uses": max_uses,
                "label": label,
                "created_by": created_by,
            },
        )
        return token, Link(**rows[0])

    def follow(self, token: str) -> LinkedExport | None:
        """What a valid token leads to; None for unknown, expired and revoked ones."""
        rows = self._control.rows("SELECT * FROM export_control.find_link(%(hash)s)", {"hash": token_hash(token)})
        return LinkedExport.of(rows[0]) if rows else None

    def use(self, token: str) -> bool:
        """Count a download; False when the link has no use left, or was revoked since it was found."""
        rows = self._control.rows("SELECT export_control.use_link(%(hash)s) AS used", {"hash": token_hash(token)})
        return bool(rows[0]["used"])

    def of_request(self, request_id: str) -> list[Link]:
        """Newest first, revoked and expired ones too."""
        rows = self._control.rows(
            f"SELECT {_LINK} FROM export_control.export_links WHERE request_id = %(id)s ORDER BY created_at DESC, id",  # noqa: S608
            {"id": request_id},
        )
        return [Link(**row) for row in rows]

    def revoke(self, request_id: str, link_id: str) -> Link:
        """From now on the link does not work. Revoking again changes nothing. `NotFound` for a foreign link."""
        rows = self._control.rows(
            f"""
            UPDATE export_control.export_links SET revoked_at = coalesce(revoked_at, now())
            WHERE id = %(link_id)s AND request_id = %(request_id)s
            RETURNING {_LINK}
            """,  # noqa: S608 - a constant of this module
            {"link_id": link_id, "request_id": request_id},
        )
        if not rows:
            raise NotFound(f"there is no link {link_id} of this export", field="link_id")
        return Link(**rows[0])


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
