"""The documents say what the program does: generated parts are fresh, commands and options exist, links work."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from export_pipelines.catalog.load import load_catalog
from export_pipelines.cli import app
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import Configuration, parse_configuration
from export_pipelines.core.model import TenantScope
from export_pipelines.pipeline.planning.orders import Order, plan_order
from export_pipelines.samples.loader import sample_catalog_path
from export_pipelines.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deployments/**/*.md")])
PROGRAM = "export-pipelines"
ELSEWHERE = {"EXPORT_ADMIN_URL", "EXPORT_TEST_KILLED_REQUESTS"}  # read by the command line and by tests


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """Contents of fenced code blocks."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands_in(text: str) -> Iterator[list[str]]:
    """Command lines of the program, from shell blocks and from inline code; words up to a comment."""
    for block in blocks(text, "sh"):
        for line in block.splitlines():
            if line.startswith(f"{PROGRAM} "):
                yield shlex.split(line, comments=True)
    for code in re.findall(rf"`({PROGRAM} [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        yield shlex.split(code)


@cache
def program() -> Any:
    return typer.main.get_command(app)


def problem_of(words: list[str]) -> str | None:
    """What is wrong with a command line, as far as its words tell."""
    command = program()
    for position, word in enumerate(words[1:], 1):
        if not hasattr(command, "list_commands"):
            known = {
                spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)
            }
            options = [word.partition("=")[0] for word in words[position:] if re.match(r"--?[a-z]", word)]
            unknown = [option for option in options if option not in {*known, "--help"}]
            return f"{' '.join(words)}: no option {unknown}" if unknown else None
        if word in ("COMMAND", "--help"):
            return None
        command = command.get_command(None, word)
        if command is None:
            return f"{' '.join(words)}: no command {word!r}"
    return None


def heading_anchors(path: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_generated_documents_are_fresh() -> None:
    command = [sys.executable, "docs/make_docs.py", "--check"]
    found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in heading_anchors(path)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_and_option_in_the_documents_exists(page: Path) -> None:
    found = [problem_of(words) for words in commands_in(page.read_text("utf-8"))]
    assert [problem for problem in found if problem] == []


def test_the_readme_shows_commands_at_all() -> None:
    shown = [" ".join(words) for words in commands_in((ROOT / "README.md").read_text("utf-8"))]
    assert len(shown) > 5


@pytest.mark.parametrize(
    "line", ["export-pipelines exprot", "export-pipelines verify --deep x", "export-pipelines catalog drop"]
)
def test_a_wrong_command_line_would_be_found(line: str) -> None:
    assert problem_of(line.split())


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_make_target_in_the_documents_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_variable_in_the_documents_is_a_setting(page: Path) -> None:
    fields: list[Any] = list(Settings.model_fields.values())
    known = {alias for field in fields for alias in field.validation_alias.choices} | ELSEWHERE
    assert set(re.findall(r"\b(?:EXPORT|SMTP|S3)_[A-Z0-9_]+\b", page.read_text("utf-8"))) <= known


def test_the_example_in_the_catalog_page_is_a_catalog() -> None:
    (example,) = blocks((ROOT / "docs/catalog.md").read_text("utf-8"), "yaml")
    catalog = Catalog.model_validate(yaml.safe_load(example))
    assert [route[0] for route in catalog.tenant_route("order_lines")] == ["order_lines"]


def test_the_request_in_the_readme_is_a_configuration() -> None:
    (insert, *_) = blocks((ROOT / "README.md").read_text("utf-8"), "sql")
    (written,) = re.findall(r"'(\{.*\})'", insert, re.DOTALL)
    assert parse_configuration(json.loads(written)).format == "csv"


CLINIC = load_catalog(sample_catalog_path("clinic"))
EXAMPLES = blocks((ROOT / "docs/configuration.md").read_text("utf-8"), "json")


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_of_a_configuration_is_one_for_the_sample(example: str) -> None:
    order = Order(configuration=Configuration.of(json.loads(example)), scope=TenantScope(tenant_id="t"))
    assert plan_order(order, CLINIC).plan.selections


def test_every_decision_is_short_and_has_its_three_parts() -> None:
    for path in sorted((ROOT / "docs/adr").glob("*.md")):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 40, path.name
        assert text.startswith(f"# {path.name[:4]} "), path.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name
