"""``signing list|rotate|revoke|public``: the keys that manifests are signed with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.table import Column
from rich.table import Table as Grid

from export_pipelines.commands import output
from export_pipelines.commands.control import at_work, record
from export_pipelines.core.signing import PublicKey
from export_pipelines.packaging.key_sets import key_set
from export_pipelines.settings import load_settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.signing_keys import SigningKeyStore

app = typer.Typer(no_args_is_help=True, help="List, change and publish the keys that manifests are signed with.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def _keys() -> Iterator[tuple[SigningKeyStore, ControlDatabase]]:
    with at_work(load_settings()) as services:
        yield services.signing, services.control


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key there ever was, oldest first. The first one is made by the first export."""
    with output.reported(as_json=as_json), _keys() as (keys, _):
        found = keys.published()
        if as_json:
            output.say_json(key_set(found)["keys"])
            return
        grid = Grid(Column("key", no_wrap=True), "state", "made", "retired", "revoked")
        for key in found:
            times = (key.created_at, key.retired_at, key.revoked_at)
            grid.add_row(key.key_id, _state(key), *(f"{time:%Y-%m-%d %H:%M}" if time else "" for time in times))
        output.out.print(grid)


@app.command()
def rotate(as_json: AsJson = False) -> None:
    """Sign with a new key from now on. What the key before it has signed stays good."""
    with output.reported(as_json=as_json), _keys() as (keys, control):
        with control.transaction():
            before, now = keys.rotate()
            record(control, "signing.rotate", target=("signing_key", now), detail={"retired": before})
        if as_json:
            output.say_json({"retired": before, "in_use": now})
            return
        output.say(f"{before} is retired and stays published" if before else "there was no key in use")
        output.say(f"{now} signs from now on; verifiers need `export-pipelines signing public` again")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Declare a key stolen or lost: nothing it ever signed is trusted any more. This cannot be undone."""
    with output.reported(as_json=as_json), _keys() as (keys, control):
        if not yes:
            typer.confirm(f"Refuse every package that {key_id} has signed, for good?", abort=True, err=True)
        with control.transaction():
            keys.revoke(key_id)
            record(control, "signing.revoke", target=("signing_key", key_id))
        if as_json:
            output.say_json({"revoked": key_id})
            return
        output.say(f"{key_id} is revoked; give verifiers `export-pipelines signing public` again")


@app.command()
def public() -> None:
    """Print the public keys as a JSON Web Key Set, for `verify --keys` and for others' programs."""
    with output.reported(), _keys() as (keys, _):
        output.say_json(key_set(keys.published()))


def _state(key: PublicKey) -> str:
    return "revoked" if key.revoked_at else "retired" if key.retired_at else "in use"
