"""How the API is put together: a module of routes is nobody's library; what several need has a module of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from export_pipelines import api

FOLDER = Path(api.__file__).parent
PREFIX = "export_pipelines.api."
TREES = {path.stem: ast.parse(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.py"))}


def declares_routes(tree: ast.Module) -> bool:
    """Whether it has a `router` of its own."""
    return any(
        isinstance(node, ast.Assign) and any(ast.unparse(target) == "router" for target in node.targets)
        for node in tree.body
    )


def imported(tree: ast.Module) -> set[str]:
    """Modules of the API that a module imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module.startswith(PREFIX):
                found.add(node.module.removeprefix(PREFIX))
            elif node.module == PREFIX.rstrip("."):
                found |= {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix(PREFIX) for alias in node.names if alias.name.startswith(PREFIX)}
    return found


ROUTES = {name for name, tree in TREES.items() if declares_routes(tree)}


def test_modules_of_routes_are_recognised() -> None:
    assert {"jobs", "estimates", "schedules", "templates", "health"} <= ROUTES
    assert not {"app", "calls", "orders", "visibility"} & ROUTES


@pytest.mark.parametrize("name", sorted(set(TREES) - {"app"}))
def test_only_the_application_imports_a_module_of_routes(name: str) -> None:
    """What several routes need is a concept with a module of its own."""
    assert imported(TREES[name]) & ROUTES == set()
