"""The saved figures of the load test as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.load.shares import CLIENT, LABELS, POSTGRES, RUNS
from benchmarks.results import Measurement, SuiteResult
from benchmarks.tables import figure, grid, seconds

_PARTS = (RUNS, POSTGRES, LABELS["daemon"], LABELS["code"], LABELS["webserver"], LABELS["api"])
_FULL = 0.9  # of the cores: from here on they are what bounds it


def api(result: SuiteResult) -> str:
    """One export at a time, many users, kinds of calls, and where the CPU went."""
    alone, many = (
        [each for each in result.measurements if each.name.startswith(kind) and each.runs]
        for kind in ("alone.", "load.")
    )
    cores = int(result.machine["cores"])
    parts = [_alone(alone), *(_load(each, cores) for each in many)]
    return "\n\n".join(parts)


def _alone(found: list[Measurement]) -> str:
    rows = [
        [each.label, seconds(each.spread()), f"{len(each.runs)}", *_cpu(each.runs[0].detail["cpu"])] for each in found
    ]
    header = ("one export at a time", "POST to completed, s", "exports", *(f"CPU s, {part}" for part in _PARTS))
    return grid(header, rows)


def _cpu(spent: dict[str, float]) -> list[str]:
    return [figure(spent.get(part, 0.0)) for part in _PARTS]


def _load(each: Measurement, cores: int) -> str:
    detail = each.runs[0].detail
    exports, calls = detail["exports"], detail["calls"]
    summary = (
        f"**{each.label}**: {detail['users']} users of {detail['tenants']} tenants for {detail['seconds']:.0f} s; "
        f"{exports['count']} exports, {exports['per_minute']:.0f} a minute, POST to completed {_s(exports['median'])} "
        f"(p95 {_s(exports['p95'])}); {detail['requests_per_second']:.1f} requests a second, "
        f"{_errors(detail)}; {detail['rows']:,} rows downloaded, every file with its SHA-256."
    )
    rows = [
        [kind, f"{call['per_second']:.1f}", *(_ms(call[share]) for share in ("median", "p95", "p99"))]
        for kind, call in sorted(calls.items())
        if kind != "events"  # lasts as long as its export
    ]
    return "\n\n".join([summary, grid(("call", "a second", "median, ms", "p95", "p99"), rows), _bound(detail, cores)])


def _errors(detail: dict[str, Any]) -> str:
    if not detail["errors"]:
        return "no error"
    reported = ", ".join(f"{count} × {words}" for words, count in sorted(detail["errors"].items()))
    return f"**{detail['error_rate']:.2%} errors** ({reported})"


def _bound(detail: dict[str, Any], cores: int) -> str:
    """Which part took what, and therefore what more exports would need."""
    busy, others = detail["cores"], detail["cores_of_others"]
    shares = ", ".join(f"{part} {busy.get(part, 0.0):.2f}" for part in _PARTS)
    used = sum(busy.values()) + others
    count = max(1, detail["exports"]["count"])
    run_cpu = busy.get(RUNS, 0.0) * detail["seconds"] / count
    bound = (
        f"The cores bound it: {used:.2f} of {cores} were busy, and the run of an export takes {run_cpu:.2f} s of CPU."
        if used >= _FULL * cores
        else f"Cores were left ({used:.2f} of {cores} busy): the places for runs and the wait for them bound it."
    )
    return (
        f"Cores kept busy: {shares}; the users themselves {busy.get(CLIENT, 0.0):.2f}, all else {others:.2f}. {bound}"
    )


def _s(value: float) -> str:
    return f"{figure(value)} s"


def _ms(value: float) -> str:
    return figure(value * 1000)
