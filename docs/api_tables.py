"""The routes of the API, as its OpenAPI document says them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from export_pipelines.api.app import create_app
from export_pipelines.core.access import ALLOWED, Action, Role
from export_pipelines.settings import Settings

_METHODS = ("get", "post", "put", "patch", "delete")
_NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"  # making the application connects to nothing


def routes() -> Iterator[tuple[str, str, str]]:
    """Method and path, what it does, success status."""
    paths: dict[str, Any] = create_app(Settings(EXPORT_CONTROL_URL=_NOWHERE)).openapi()["paths"]
    for path, operations in paths.items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                done = next(code for code in operation["responses"] if code.startswith(("2", "3")))
                yield f"`{method.upper()} {path.removeprefix('/api/v1')}`", operation["summary"], done


def actions() -> Iterator[tuple[str, ...]]:
    """Each action with the roles that may."""
    for action in Action:
        yield (f"`{action}`", *("yes" if action in ALLOWED[role] else "" for role in Role))
