"""``samples list``: the sample databases that `demo` and `up` can make."""

from __future__ import annotations

from typing import Annotated

import typer

from export_pipelines.commands import output
from export_pipelines.samples.loader import DEFAULT_SAMPLE, sample_catalog, sample_names

app = typer.Typer(no_args_is_help=True, help="Sample databases for `demo` and `up`: see what there is.")


@app.callback()
def samples() -> None:
    """What all commands have in common."""


@app.command("list")
def list_samples(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Each sample with what it is about."""
    with output.reported(as_json=as_json):
        found = {name: sample_catalog(name) for name in sample_names()}
        if as_json:
            output.say_json(
                [
                    {
                        "name": name,
                        "title": catalog.title,
                        "description": catalog.description,
                        "default": name == DEFAULT_SAMPLE,
                        "tables": list(catalog.tables),
                    }
                    for name, catalog in found.items()
                ]
            )
            return
        for name, catalog in found.items():
            default = " (default)" if name == DEFAULT_SAMPLE else ""
            output.say(f"{name:10} {len(catalog.tables):3} tables  {catalog.description}{default}")
