"""``destinations list|test``: where this service can deliver to, and whether it works."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from export_pipelines.commands import output
from export_pipelines.commands.ordering import AsJson
from export_pipelines.core.destinations import TestStep
from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.destinations.registry import all_destinations, find_destination, open_destinations
from export_pipelines.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Show and test where exports can be delivered to.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every kind of destination, and whether it is set up."""
    with output.reported(as_json=as_json):
        here = open_destinations(load_settings())
        rows = [
            {
                "method": spec.name,
                "title": spec.title,
                "carries": spec.carries,
                "effect": spec.effect,
                "set_up": spec.open is None or here.configured(spec.name),
                "example": dict(spec.example),
            }
            for spec in all_destinations().values()
        ]
        if as_json:
            output.say_json(rows)
            return
        for row in rows:
            state = "set up" if row["set_up"] else "not set up"
            output.say(f"{row['method']:10} {row['title']:24} carries {row['carries']:8} {row['effect']:14} {state}")


@app.command("test")
def run_test(
    method: Annotated[str, typer.Argument(help="Kind of destination, such as email.")], as_json: AsJson = False
) -> None:
    """Take the steps of a delivery without delivering anything; stops at the first problem."""
    with output.reported(as_json=as_json):
        if find_destination(method).open is None:
            raise RequestRejected("delivers nothing, so there is nothing to test", field="method")
        steps: list[TestStep] = []
        for step in open_destinations(load_settings()).open(method).self_test():
            steps.append(step)
            if not as_json:
                output.say(f"{'failed' if step.problem else 'ok':6} {step.name}")
        if as_json:
            output.say_json([asdict(step) for step in steps])
        problem = next((step.problem for step in steps if step.problem), None)
        if problem:
            raise Unavailable(problem)
