"""Writes what was measured into docs/benchmarks.md, between its marks, and draws the plots. Measures nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import plots, tables
from benchmarks.load import suite as load_suite
from benchmarks.load import tables as load_tables
from benchmarks.results import SuiteResult, load
from benchmarks.scale import tables as scale_tables
from benchmarks.soak import tables as soak_tables

_PART = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SUITES: Mapping[str, Callable[[SuiteResult], str]] = {
    "stages": tables.stages,
    "formats": tables.jobs,
    "peers": tables.peers,
    "sheets": tables.sheets,
    "small": tables.small,
    "growth": tables.growth,
    "memory": tables.memory,
    "api": load_tables.api,
    "scale": scale_tables.scale,
    "soak": soak_tables.soak,
}
_COMMANDS = (load_suite.NAME, "scale", "soak")  # suites that are commands of their own


def write(results: Path, page: Path) -> list[Path]:
    """The page and its plots; the paths written."""
    found = load(results)
    page.write_text(rendered(page.read_text("utf-8"), found), "utf-8")
    return [page, *plots.draw(found, page.parent / "images")]


def rendered(page: str, results: Mapping[str, SuiteResult]) -> str:
    """The page with every part as the results have it; a part without results says so."""
    return _PART.sub(lambda found: f"{found[1]}{_part(found[2], results)}\n{found[3]}", page)


def _part(name: str, results: Mapping[str, SuiteResult]) -> str:
    if name == "targets":
        return "\n\n".join([*_reservations(results), tables.targets(results)])
    if name == "machine":
        return "\n".join(f"- {line}" for line in dict.fromkeys(_machine(result) for result in results.values()))
    result = results.get(name)
    if result is None:
        command = name if name in _COMMANDS else f"run --suite {name}"
        return f"Not measured yet: `python -m benchmarks {command}`."
    return f"{_circumstances(result)}\n\n{_SUITES[name](result)}"


def _reservations(results: Mapping[str, SuiteResult]) -> list[str]:
    """What weakens the verdicts as a whole."""
    said = []
    if any(result.preliminary for result in results.values()):
        sizes = sorted({f"{result.rows:,}" for result in results.values() if result.preliminary})
        said.append(f"**From a small run ({', '.join(sizes)} rows): no verdict on targets that speak of 2M rows.**")
    if any(result.loaded for result in results.values()):
        said.append("**Other work was on the machine.**")
    return [" ".join(said)] if said else []


def _circumstances(result: SuiteResult) -> str:
    """When, at what commit, and what a reader must know before trusting a ratio."""
    runs = "one run each" if result.repeat == 1 else f"up to {result.repeat} runs each"
    said = [f"{result.started_at[:10]}, commit `{result.machine['revision']}`, {runs}"]
    said.append(f"load average before the run: {result.machine['load_average']:.1f}")
    if result.loaded:
        said.append("**other work was on the machine**")
    if result.preliminary:
        said.append(f"**a small run of {result.rows:,} rows**, in which fixed costs weigh more than rows")
    return f"{'; '.join(said)}."


def _machine(result: SuiteResult) -> str:
    machine = result.machine
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}, "
        f"Python {machine['python']}, PostgreSQL {machine['postgresql']} on the same machine; {libraries}; "
        f"decoder: {machine['decoder']}"
    )
