"""Templates: configurations that are kept to be used again, by their owner or by everybody of the tenant."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from typing import Any, Self
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from export_pipelines.core.errors import Conflict, NotFound
from export_pipelines.core.estimating import Estimate
from export_pipelines.stores.control import Control
from export_pipelines.stores.paging import cursor_of, position_of


@dataclass(frozen=True, kw_only=True)
class Template:
    """One row of ``export_templates``."""

    id: str
    tenant_id: str
    owner: str
    name: str
    description: str
    shared: bool  # with everybody of the tenant
    config: dict[str, Any]  # without a password; it is given with each run
    estimated_rows: int | None  # as of when it was saved or used last
    estimated_bytes: int | None
    estimated_seconds: float | None
    times_used: int
    last_used_at: dt.datetime | None
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        return cls(**{**{field.name: row[field.name] for field in fields(cls)}, "id": str(row["id"])})


@dataclass(frozen=True, kw_only=True)
class TemplateDraft:
    """What was checked and is to be kept."""

    name: str
    description: str
    shared: bool
    config: dict[str, Any]
    estimate: Estimate | None  # None where the source cannot be asked


class TemplateStore:
    """Reads and changes of templates. Policies decide which a caller sees, and which it may change."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def create(self, draft: TemplateDraft, *, tenant_id: str, owner: str) -> Template:
        """`Conflict` when the tenant has as many as it may."""
        template_id = str(uuid4())
        self._control.rows(
            """
            INSERT INTO export_control.export_templates
                (id, tenant_id, owner, name, description, shared, config, estimated_rows, estimated_bytes,
                 estimated_seconds)
            VALUES (%(id)s, %(tenant_id)s, %(owner)s, %(name)s, %(description)s, %(shared)s, %(config)s, %(rows)s,
                    %(bytes)s, %(seconds)s)
            """,
            {**_values(draft), "id": template_id, "tenant_id": tenant_id, "owner": owner},
        )
        return self.get(template_id)

    def update(self, template_id: str, draft: TemplateDraft, *, version: int | None = None) -> Template:
        """All of it anew; `Conflict` when it is not of the version expected, or belongs to somebody else."""
        before = self.get(template_id)
        if version is not None and version != before.version:
            raise Conflict(f"is at version {before.version}; read it again and repeat the change", field="version")
        rows = self._control.rows(
            """
            UPDATE export_control.export_templates
            SET name = %(name)s, description = %(description)s, shared = %(shared)s, config = %(config)s,
                estimated_rows = %(rows)s, estimated_bytes = %(bytes)s, estimated_seconds = %(seconds)s,
                version = version + 1, updated_at = now()
            WHERE id = %(id)s AND version = %(before)s RETURNING id
            """,
            {**_values(draft), "id": template_id, "before": before.version},
        )
        if not rows:
            raise _not_yours()
        return self.get(template_id)

    def get(self, template_id: str) -> Template:
        """`NotFound` for unknown ones and those of others that are not shared."""
        try:
            UUID(template_id)
        except ValueError as error:
            raise NotFound(f"{template_id!r} is not a template id", field="template_id") from error
        rows = self._control.rows(
            "SELECT * FROM export_control.export_templates WHERE id = %(id)s", {"id": template_id}
        )
        if not rows:
            raise NotFound(f"there is no template {template_id}", field="template_id")
        return Template.of(rows[0])

    def page(self, *, limit: int, cursor: str | None = None) -> tuple[list[Template], str | None]:
        """Newest first, and the cursor of the next page."""
        after_at, after_id = position_of(cursor) if cursor else (None, None)
        rows = self._control.rows(
            """
            SELECT * FROM export_control.export_templates
            WHERE %(after_at)s::timestamptz IS NULL OR (created_at, id) < (%(after_at)s, %(after_id)s::uuid)
            ORDER BY created_at DESC, id DESC LIMIT %(limit)s + 1
            """,
            {"after_at": after_at, "after_id": after_id, "limit": limit},
        )
        found = [Template.of(row) for row in rows[:limit]]
        return found, cursor_of(found[-1].created_at, found[-1].id) if len(rows) > limit else None

    def used(self, template_id: str) -> None:
        """Count a use."""
        self._control.rows("SELECT export_control.use_template(%(id)s::uuid)", {"id": template_id})

    def delete(self, template_id: str) -> Template:
        """Exports and schedules made from it stay as they are."""
        template = self.get(template_id)
        rows = self._control.rows(
            "DELETE FROM export_control.export_templates WHERE id = %(id)s RETURNING id", {"id": template_id}
        )
        if not rows:
            raise _not_yours()
        return template


def _values(draft: TemplateDraft) -> dict[str, Any]:
    estimate = draft.estimate
    return {
        "name": draft.name,
        "description": draft.description,
        "shared": draft.shared,
        "config": Jsonb(draft.config),
        "rows": estimate and estimate.rows,
        "bytes": estimate and estimate.size_bytes,
        "seconds": estimate and estimate.seconds,
    }


def _not_yours() -> Conflict:
    return Conflict("is shared by somebody else; only its owner or an admin changes it", field="template_id")
