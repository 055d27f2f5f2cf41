"""``keys create|list|revoke``: credentials for the API."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Column
from rich.table import Table as Grid

from export_pipelines.commands import output
from export_pipelines.commands.control import open_control, record, shell_user
from export_pipelines.core.access import Role
from export_pipelines.stores.api_keys import ApiKey, ApiKeyStore

app = typer.Typer(no_args_is_help=True, help="Keys for the API: make, list and revoke them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    role: Annotated[Role, typer.Option(help="What the key may do.")],
    tenant: Annotated[str | None, typer.Option(help="Id of the tenant; needed for all but operators.")] = None,
    user: Annotated[str | None, typer.Option(help="Id of the user; needed for members.")] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Default: never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, once: the service keeps its hash only."""
    lifetime = dt.timedelta(days=expires_in_days) if expires_in_days else None
    with output.reported(as_json=as_json), open_control() as control:
        with control.transaction():
            made, key = ApiKeyStore(control).create(
                role=role, tenant_id=tenant, user_id=user, name=name, created_by=shell_user(), lifetime=lifetime
            )
            record(control, "key.create", target=("key", made.id), tenant_id=tenant, detail=_payload(made))
        if as_json:
            output.say_json({**asdict(made), "key": key})
            return
        output.say(key)
        output.err.print(output.plain(f"key {made.id} for {_scope(made)}; it is not shown again"))


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None, as_json: AsJson = False
) -> None:
    """Newest first, revoked and expired ones too."""
    with output.reported(as_json=as_json), open_control() as control:
        found, now = ApiKeyStore(control).list(tenant_id=tenant), dt.datetime.now(dt.UTC)
        if as_json:
            output.say_json([{**asdict(key), "state": key.state(now)} for key in found])
            return
        identity = Column("id", no_wrap=True, min_width=36)
        grid = Grid(identity, "ends in", "name", "role", "tenant", "user", "state", "created", "expires", "last used")
        for key in found:
            words = (key.id, key.hint, key.name, key.role, key.tenant_id or "", key.user_id or "", key.state(now))
            times = (_day(key.created_at), _day(key.expires_at), _day(key.last_used_at))
            grid.add_row(*(output.plain(word) for word in (*words, *times)))
        output.out.print(grid)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="Id of the key.")]) -> None:
    """End a key, at once and for good."""
    with output.reported(), open_control() as control:
        with control.transaction():
            key = ApiKeyStore(control).revoke(key_id)
            record(control, "key.revoke", target=("key", key.id), tenant_id=key.tenant_id, detail=_payload(key))
        output.say(f"key {key.id} for {_scope(key)} is revoked")


def _payload(key: ApiKey) -> dict[str, str | None]:
    expires = key.expires_at.isoformat() if key.expires_at else None
    return {"for_role": key.role, "for_user": key.user_id, "name": key.name, "hint": key.hint, "expires_at": expires}


def _scope(key: ApiKey) -> str:
    parts = (key.role, f"of {key.tenant_id}" if key.tenant_id else "", f"user {key.user_id}" if key.user_id else "")
    return " ".join(part for part in parts if part)


def _day(at: dt.datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
