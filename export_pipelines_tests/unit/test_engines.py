"""Which way rows are read: what was asked for, or what works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from export_pipelines.core.errors import RequestRejected
from export_pipelines.sources import engines
from export_pipelines.sources.engines import Choice, choose_engine

ROOT = Path(__file__).parents[2]
NOT_BUILT = "it was not built"


@pytest.mark.parametrize(
    ("choice", "problem", "name"),
    [
        ("auto", None, "native"),
        ("auto", NOT_BUILT, "adbc"),
        ("adbc", None, "adbc"),
        ("adbc", NOT_BUILT, "adbc"),
        ("native", None, "native"),
    ],
)
def test_an_engine_is_chosen_that_works_here(
    monkeypatch: pytest.MonkeyPatch, engines_here: dict[str, str | None], choice: Choice, problem: str | None, name: str
) -> None:
    if engines_here[name] is not None:
        pytest.skip(f"no {name} decoder: {engines_here[name]}")
    monkeypatch.setattr(engines, "availability", lambda: problem)
    assert choose_engine(choice).name == name


def test_the_native_decoder_is_not_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "availability", lambda: NOT_BUILT)
    with pytest.raises(RequestRejected, match=NOT_BUILT) as found:
        choose_engine("native")
    assert found.value.field == "EXPORT_DECODER"
    assert str(choose_engine("auto")) == f"adbc decoder (native: {NOT_BUILT})"


def test_without_a_compiler_the_package_still_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", "from setuptools import setup; setup()"]
    arguments = ["-q", "build_ext", "--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "CC": "/nonexistent/cc"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*.so")) == []
