"""The process that runs are copied from: what it has imported and holds, and what becomes of its copies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from export_pipelines.allocators import ENVIRONMENT
from export_pipelines.orchestration import warm

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere runs are Dagster's own")


@dataclass(frozen=True)
class ForkServer:
    """What `fork_server` told of one, and its standard error."""

    reported: dict[str, Any]
    stderr: str


def fork_server(*arguments: str, **settings: str) -> ForkServer:
    command = [sys.executable, "-m", "export_pipelines_tests.orchestration.fork_server", *arguments]
    environment = {**os.environ, **ENVIRONMENT, **settings}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    return ForkServer(json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="module")
def many_copies(tmp_path_factory: pytest.TempPathFactory) -> ForkServer:
    return fork_server("--long", EXPORT_HOME=str(tmp_path_factory.mktemp("home")))


@LINUX
def test_the_template_holds_nothing_that_a_copy_must_not_inherit(many_copies: ForkServer) -> None:
    template = many_copies.reported["at_first"]
    assert (template["threads"], template["inet"], template["files"]) == (1, [], [])
    assert "threads of its own" not in many_copies.stderr


@LINUX
def test_the_template_does_not_grow_by_copies_and_leaves_no_zombies(many_copies: ForkServer) -> None:
    before, after = many_copies.reported["at_first"], many_copies.reported["at_last"]
    assert after["bytes"] - before["bytes"] < 500_000
    assert after["descriptors"] == before["descriptors"]
    assert after["children"] == []


@LINUX
def test_copies_have_everything_imported_and_draw_random_values_of_their_own(many_copies: ForkServer) -> None:
    copies = many_copies.reported["copies"]
    assert all(copy["dagster"] and copy["polars"] for copy in copies)
    for drawn in zip(*(copy["random"] for copy in copies), strict=True):
        assert len(set(drawn)) == len(copies)


@LINUX
def test_a_copy_is_interrupted_when_the_template_is_killed_and_another_template_starts(many_copies: ForkServer) -> None:
    assert many_copies.reported["forked_by_a_copy"] == 0  # it is no copy, and was not ended by its parent's death rule
    assert many_copies.reported["when_the_template_is_killed"] == "interrupted"
    assert many_copies.reported["another_template"] is True


@LINUX
def test_runs_start_slowly_but_start_when_nothing_could_be_imported_for_them(tmp_path: Path) -> None:
    """A run then says itself what is wrong, where a fork server that ended would have it wait in the queue."""
    found = fork_server(EXPORT_HOME=str(tmp_path), EXPORT_CATALOG=str(tmp_path / "missing.yaml"))
    assert len(found.reported["copies"]) == 2
    assert "nothing could be imported for them" in found.stderr
    assert "missing.yaml" in found.stderr


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that says when it is executed."""
    name = "put_off_example"
    (tmp_path / f"{name}.py").write_text("executions = globals().get('executions', 0) + 1\nvalue = 'ours'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield name
    sys.modules.pop(name, None)


def test_what_was_put_off_is_executed_once_and_by_whoever_asks_first(example: str) -> None:
    module = warm.put_off(example)
    imported = __import__(example)
    assert imported is module
    assert "executions" not in vars(module)
    assert (module.value, module.executions) == ("ours", 1)
    warm.load(module)
    assert module.executions == 1
    assert not hasattr(module, "nothing")


def test_a_module_that_is_not_installed_cannot_be_put_off() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        warm.put_off("no_such_module")
