"""The arithmetic of estimates: from the planner's guess and past exports to rows, bytes and seconds.

Work is counted in *volume*: rows times the width that the planner knows, and something for each row. Bytes and seconds
are rates on it, and each rate rests on several layers, the general ones first: built-in factors, past exports of
any table in the format, of this table, of this table by this tenant. A layer replaces the one below as far as it has
volume to show for it, so that a handful of rows cannot outweigh what is known of millions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from export_pipelines.core.model import PlannerGuess, TableSelection
from export_pipelines.core.omissions import Omissions
from export_pipelines.core.ports import FormatSpec

START_SECONDS = 0.3  # of a run, whatever it exports: plan, package documents, publishing
ROW_BYTES = 24  # what a row costs beside its values
_SIZE_WEIGHT = 5_000.0  # bytes of volume at which a layer counts as much as the one below
_SECONDS_WEIGHT = 20e6  # the same for seconds: shorter runs are mostly start and noise
_MOST_CORRECTION = 1000.0
_READ_SECONDS = 0.006e-6  # of each byte, which a conversion saves


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a byte of volume becomes."""

    size: float
    seconds: float


# docs/benchmarks.md, "Factors of estimates": geometric mean of a narrow and a wide table, seconds beyond the start.
_FORMATS = {
    "csv": Rates(size=1.22, seconds=0.017e-6),
    "json": Rates(size=1.77, seconds=0.034e-6),
    "ndjson": Rates(size=1.77, seconds=0.032e-6),
    "parquet": Rates(size=0.33, seconds=0.014e-6),
    "xlsx": Rates(size=0.69, seconds=0.065e-6),
    "xml": Rates(size=2.14, seconds=0.085e-6),
}
_UNKNOWN_FORMAT = Rates(size=1.8, seconds=0.05e-6)
# ``size`` is of the volume, since text of any form shrinks to what it says; ``seconds`` are of each byte written.
_COMPRESSIONS = {
    "gzip": Rates(size=0.40, seconds=0.003e-6),
    "zip": Rates(size=0.40, seconds=0.005e-6),
    "zstd": Rates(size=0.37, seconds=0.002e-6),
    "bz2": Rates(size=0.28, seconds=0.065e-6),
}


class Basis(StrEnum):
    """What bytes and seconds were estimated from, the best first."""

    PAST_EXPORTS = "past_exports"  # of the same table
    PLANNER = "planner"  # of other tables in the format, by the planner's width of this one
    BUILT_IN = "built_in"  # nothing was exported in this form yet


@dataclass(frozen=True, kw_only=True)
class Past:
    """Sums over finished exports."""

    exports: int
    volume_bytes: float
    size_bytes: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class History:
    """What finished exports in the same form tell."""

    ratios: Mapping[str, float] = field(default_factory=dict)  # by table: rows over the planner's guess, lately
    by_tenant: Mapping[str, Past] = field(default_factory=dict)
    by_table: Mapping[str, Past] = field(default_factory=dict)  # of many tenants, else none
    by_format: Past | None = None  # of many tenants, else of this one


@dataclass(frozen=True, kw_only=True)
class TableEstimate:
    """One table of an export that was not made yet."""

    table: str
    rows: int
    size_bytes: int
    seconds: float
    basis: Basis
    past_exports: int  # of this table, which its figures rest on
    corrected: bool  # whether the planner's rows were scaled by what past exports had
    analysed: bool  # whether the source has statistics of the table; without, rows are hardly more than a default


@dataclass(frozen=True, kw_only=True)
class PastError:
    """The median relative error of past estimates: 0.1 is ten percent off."""

    exports: int
    own: bool  # of this tenant and format; else of many tenants, or of this one in any format
    rows: float
    size_bytes: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What an export would be."""

    rows: int
    size_bytes: int  # of the whole package
    seconds: float  # of the run, without waiting for one
    tables: tuple[TableEstimate, ...]
    classes: Mapping[str, int]  # classification → columns with it
    recipients: tuple[str, ...]  # of deliveries; whoever ordered it can download it, too
    basis: Basis  # the weakest of the tables'
    past_error: PastError | None  # None: no estimate could be compared with an export yet
    omissions: Omissions  # what the export would leave out
    files: int | None = None  # of data, before they are archived; None: cannot be told before the rows are read


def volume(rows: float, width_bytes: int) -> float:
    return rows * (ROW_BYTES + width_bytes)


def built_in(spec: FormatSpec, compression: str, *, converted: bool = False) -> Rates:
    """The rates before anything was exported."""
    known = _FORMATS.get(spec.name, _UNKNOWN_FORMAT)
    seconds = max(0.0, known.seconds - (_READ_SECONDS if converted else 0.0))
    codec = _COMPRESSIONS.get(compression)
    if codec is None:
        return Rates(size=known.size, seconds=seconds)
    return Rates(size=codec.size if spec.compressible else known.size, seconds=seconds + known.size * codec.seconds)


def learned(below: Rates, past: Past | None) -> Rates:
    """The rates of a layer on those below it."""
    if past is None:
        return below
    return Rates(
        size=(past.size_bytes + _SIZE_WEIGHT * below.size) / (past.volume_bytes + _SIZE_WEIGHT),
        seconds=(past.seconds + _SECONDS_WEIGHT * below.seconds) / (past.volume_bytes + _SECONDS_WEIGHT),
    )


def selection_kind(selection: TableSelection) -> str:
    """Selections of a kind are those for which the planner errs alike."""
    part = selection.window is not None or bool(selection.conditions)
    kind = f"{'part' if part else 'whole'}, {'all' if selection.include_deleted else 'live'}"
    return f"{kind}, {selection.aggregation}" if selection.aggregation else kind


def estimate_table(table: str, guess: PlannerGuess, history: History, rates: Rates) -> TableEstimate:
    """One table; ``rates`` are the built-in ones."""
    own, anybody = history.by_tenant.get(table), history.by_table.get(table)
    rates = learned(learned(learned(rates, history.by_format), anybody), own)
    ratio = history.ratios.get(table)
    rows = guess.rows if ratio is None else corrected(guess.rows, ratio)
    amount = volume(rows, guess.width_bytes)
    past = own or anybody
    return TableEstimate(
        table=table,
        rows=rows,
        size_bytes=round(amount * rates.size),
        seconds=amount * rates.seconds,
        basis=Basis.PAST_EXPORTS if past else Basis.PLANNER if history.by_format else Basis.BUILT_IN,
        past_exports=past.exports if past else 0,
        corrected=ratio is not None,
        analysed=guess.analysed,
    )


def corrected(rows: int, ratio: float) -> int:
    """A guess as past exports would have it. The ratio is of one row more than there were, so that none is no zero."""
    return max(0, round((rows + 1) * min(max(ratio, 1 / _MOST_CORRECTION), _MOST_CORRECTION)) - 1)


def documents_bytes(columns: int, *, archived: bool) -> int:
    """Of the documents of a package: README, description, checksums and manifest, or the manifest beside an archive."""
    return 3_400 + 250 * columns if archived else 5_600 + 450 * columns


def weakest(bases: Iterable[Basis]) -> Basis:
    order = list(Basis)
    return max(bases, key=order.index)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What one table of a finished export was."""

    table: str
    selection: str
    planner_rows: int | None
    rows: int
    volume_bytes: int
    size_bytes: int


def shares(volumes: Sequence[float]) -> list[float]:
    """Parts of one that are proportional to the volumes; equal parts where all are empty."""
    total = sum(volumes)
    return [amount / total if total else 1 / len(volumes) for amount in volumes]
