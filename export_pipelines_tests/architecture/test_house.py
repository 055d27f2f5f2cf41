"""The shape of the house: what the core may load, what a format must be called, where the environment is read."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

import export_pipelines
from export_pipelines.formats import registry

PACKAGE = Path(export_pipelines.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES_OF_NOTHING = ("utils", "helpers", "common", "misc", "manager")


@cache
def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def test_importing_the_core_loads_no_dagster_driver_or_frame_library() -> None:
    core = ", ".join(f"export_pipelines.core.{path.stem}" for path in (PACKAGE / "core").glob("*.py"))
    heavy = ("dagster", "boto3", "pandas", "polars", "duckdb", "psycopg", "sqlalchemy", "fastapi")
    script = f"import {core}, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_format_whose_name_differs_from_its_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.importlib, "import_module", lambda _: SimpleNamespace(SPEC=SimpleNamespace(name="x")))
    with pytest.raises(TypeError, match="the two names must agree"):
        registry.all_formats.__wrapped__()


def reads_the_environment(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name("os"), attr="getenv")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Attribute(value=ast.Name("os"), attr="environ"), attr="get")):
            return True
        case ast.Subscript(value=ast.Attribute(value=ast.Name("os"), attr="environ")):
            return True
    return False


def test_only_the_settings_read_the_environment() -> None:
    """Entry points may hand variables on to what they start; nothing else asks for one."""
    assert [str(module) for module in MODULES if any(map(reads_the_environment, ast.walk(parsed(module))))] == []


def test_every_module_says_what_belongs_in_it() -> None:
    silent = [module for module in MODULES if parsed(module).body and not ast.get_docstring(parsed(module))]
    assert [str(module) for module in silent] == []
    assert [str(module) for module in MODULES if module.stem in NAMES_OF_NOTHING] == []


OPENERS = {
    "pipeline/services.py",
    "pipeline/assembly.py",
    "api/services.py",
    "commands/control.py",  # the control database alone, for commands that need nothing else
    "commands/service.py",  # `migrate`, before there is a schema
    "destinations/email.py",  # what `destinations.registry` opens by its spec
}
OPENED = {"open_source", "open_object_store", "open_store", "open_box", "open_secret_box", "open_mailer", "SmtpMailer"}
OPENED |= {"ControlDatabase", "ControlPool"}


def opened_parts(module: Path) -> set[str]:
    """What it opens that settings name."""
    calls = [
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    ]
    return {name for name in calls if name in OPENED}


def test_what_settings_name_is_opened_in_one_place() -> None:
    """So that it is closed in one place, and a setting is read in one."""
    elsewhere = [module for module in MODULES if module.relative_to(PACKAGE).as_posix() not in OPENERS]
    assert {str(module): names for module in elsewhere if (names := opened_parts(module))} == {}
