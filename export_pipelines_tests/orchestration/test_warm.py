"""What the fork server has imported: everything but what starts a thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from export_pipelines.allocators import ENVIRONMENT
from export_pipelines.orchestration import warm

_WARMED = """
import json, os, sys
import export_pipelines.orchestration.warmed
from export_pipelines.orchestration import warm
reading, writing = os.pipe()
here = {"threads": warm.strays(), "polars": sorted(m for m in sys.modules if m.startswith("polars."))}
if os.fork() == 0:
    import polars
    sum_ = int(polars.DataFrame({"a": [1, 2]})["a"].sum())
    os.write(writing, json.dumps({"sum": sum_, "imported": "polars.dataframe" in sys.modules}).encode())
    os._exit(0)
os.wait()
print(json.dumps({**here, "copy": json.loads(os.read(reading, 1000))}))
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted by /proc")
def test_a_warm_process_has_one_thread_and_its_copies_have_polars(tmp_path: Path) -> None:
    environment = {**os.environ, **ENVIRONMENT, **warm.ENVIRONMENT, "EXPORT_HOME": str(tmp_path)}
    reported = subprocess.run(
        [sys.executable, "-c", _WARMED], env=environment, check=True, capture_output=True, text=True
    )
    assert json.loads(reported.stdout) == {"threads": [], "polars": [], "copy": {"sum": 3, "imported": True}}
    assert "threads of its own" not in reported.stderr


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
