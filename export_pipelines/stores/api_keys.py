"""API keys: made and revoked by the service, asked about by the API."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from typing import Any, Self
from uuid import UUID

from export_pipelines.core.access import Caller, Role, is_own_name
from export_pipelines.core.api_keys import HINT_LENGTH, fingerprint, is_whole, new_key
from export_pipelines.core.errors import Conflict, NotFound, RequestRejected
from export_pipelines.stores.control import Control

_LONGEST = 200
_COLUMNS = "id, name, hint, role, tenant_id, user_id, created_at, created_by, expires_at, revoked_at, last_used_at"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """What is known of a key; the key itself only its holder has."""

    id: str
    name: str
    hint: str  # its last characters
    role: Role
    tenant_id: str | None
    user_id: str | None
    created_at: dt.datetime
    created_by: str
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None  # at most once a minute

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        named = {field.name: row[field.name] for field in fields(cls)}
        return cls(**{**named, "id": str(row["id"]), "role": Role(row["role"])})

    def state(self, now: dt.datetime) -> str:
        """``active``, ``revoked`` or ``expired``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


Keys = list[ApiKey]  # the store's own `list` hides the type inside the class


class ApiKeyStore:
    """The table ``api_keys``; all but `authenticate` is for the service itself."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def create(
        self,
        *,
        role: Role,
        tenant_id: str | None = None,
        user_id: str | None = None,
        name: str = "",
        created_by: str,
        lifetime: dt.timedelta | None = None,
    ) -> tuple[ApiKey, str]:
        """The key's row and the key, which nothing can show again."""
        _check_scope(role, tenant_id, user_id)
        _check_lengths(name=name, tenant=tenant_id, user=user_id)
        if user_id and is_own_name(user_id):
            raise RequestRejected("is what the service calls its own; choose another name", field="user")
        key = new_key()
        rows = self._control.rows(
            f"""
            INSERT INTO export_control.api_keys
                (name, token_sha256, hint, role, tenant_id, user_id, created_by, expires_at)
            VALUES (%(name)s, %(token_sha256)s, %(hint)s, %(role)s, %(tenant_id)s, %(user_id)s, %(created_by)s,
                    now() + %(lifetime)s)
            RETURNING {_COLUMNS}
            """,  # noqa: S608 - a constant of this module
            {
                "name": name,
                "token_sha256": fingerprint(key),
                "hint": key[-HINT_LENGTH:],
                "role": role.value,
                "tenant_id": tenant_id,
                "user_id": user_id,
                "created_by": created_by,
                "lifetime": lifetime,
            },
        )
        return ApiKey.of(rows[0]), key

    def list(self, *, tenant_id: str | None = None) -> Keys:
        """Newest first, revoked and expired ones too."""
        rows = self._control.rows(
            f"""
            SELECT {_COLUMNS} FROM export_control.api_keys
            WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s
            ORDER BY created_at DESC, id
            """,  # noqa: S608 - a constant of this module
            {"tenant_id": tenant_id},
        )
        return [ApiKey.of(row) for row in rows]

    def revoke(self, key_id: str) -> ApiKey:
        """At once and for good. `NotFound` for an unknown id, `Conflict` when it is revoked already."""
        try:
            UUID(key_id)
        except ValueError as error:
            raise NotFound(f"{key_id!r} is not the id of a key; `keys list` shows ids", field="key_id") from error
        rows = self._control.rows(
            f"""
            UPDATE export_control.api_keys SET revoked_at = now() WHERE id = %(id)s AND revoked_at IS NULL
            RETURNING {_COLUMNS}
            """,  # noqa: S608 - a constant of this module
            {"id": key_id},
        )
        if rows:
            return ApiKey.of(rows[0])
        if self._control.rows("SELECT 1 FROM export_control.api_keys WHERE id = %(id)s", {"id": key_id}):
            raise Conflict(f"{key_id} is revoked already", field="key_id")
        raise NotFound(f"there is no key {key_id}; `keys list` shows ids", field="key_id")

    def authenticate(self, key: str) -> Caller | None:
        """Whom an active key stands for; None for any other text."""
        if not is_whole(key):
            return None
        rows = self._control.rows(
            "SELECT id, role, tenant_id, user_id FROM export_control.authenticate(%(token)s)",
            {"token": fingerprint(key)},
        )
        if not rows:
            return None
        row = rows[0]
        return Caller(
            role=Role(row["role"]), tenant_id=row["tenant_id"], user_id=row["user_id"], credential=f"key:{row['id']}"
        )


def _check_lengths(**texts: str | None) -> None:
    for field, text in texts.items():
        if text is not None and len(text) > _LONGEST:
            raise RequestRejected(f"has {len(text)} characters; use at most {_LONGEST}", field=field)


def _check_scope(role: Role, tenant_id: str | None, user_id: str | None) -> None:
    """As the table's constraints, with a message that says what to give."""
    if role is Role.OPERATOR and tenant_id is not None:
        raise RequestRejected("an operator belongs to no tenant; leave it out", field="tenant")
    if role is not Role.OPERATOR and not tenant_id:
        raise RequestRejected(f"is needed with the role {role}", field="tenant")
    if role is Role.MEMBER and not user_id:
        raise RequestRejected("is needed with the role member", field="user")
