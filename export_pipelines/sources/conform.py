"""Checks on every batch between the wire and the stage: the catalog's schema, or an error; never a repair.

A value that the travelling type cannot hold is refused here, before anything is written. An export then reads the
column as text (`export_pipelines.pipeline.extract.stage`); the lake, whose schema is fixed, passes the refusal on.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from export_pipelines.core.errors import IntegrityViolation, RequestRejected, ValueBeyondRepresentation
from export_pipelines.core.types import BEYOND, Kind, kind_of

_DAY_US = 86_400_000_000
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, as days since 1970
_RANGES = {
    Kind.DATE: (pa.int32(), _FIRST_DAY, _LAST_DAY),
    Kind.TIME: (pa.int64(), 0, _DAY_US - 1),
    Kind.TIMESTAMP: (pa.int64(), _FIRST_DAY * _DAY_US, (_LAST_DAY + 1) * _DAY_US - 1),
    Kind.INSTANT: (pa.int64(), _FIRST_DAY * _DAY_US, (_LAST_DAY + 1) * _DAY_US - 1),
}


def conform(batch: pa.RecordBatch, schema: pa.Schema, table: str) -> pa.RecordBatch:
    """The leading columns of the batch in ``schema``.

    `RequestRejected` when the source sends something else than the catalog says, `ValueBeyondRepresentation` when a
    column would have to travel as text.
    """
    columns = [_column(batch.column(i), field, table) for i, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: pa.Array, field: pa.Field, table: str) -> pa.Array:
    name = f"{table}.{field.name}"
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if not field.nullable and values.null_count:
        raise RequestRejected(f"the catalog says NOT NULL but NULLs arrived; {_CHECK}", field=name)
    kind = kind_of(field)
    if kind is Kind.DECIMAL and pa.types.is_string(values.type):
        return _decimal(values, field, name)
    if values.type != field.type:
        raise RequestRejected(f"the catalog says {field.type} but the source sends {values.type}; {_CHECK}", field=name)
    if kind in _RANGES:
        _check_range(values, kind, name)
    return values


def _decimal(values: pa.Array, field: pa.Field, name: str) -> pa.Array:
    try:
        return pc.cast(values, field.type)
    except pa.ArrowInvalid as error:
        raise decimal_misfit(field, name) from error


def decimal_misfit(field: pa.Field, name: str) -> ValueBeyondRepresentation:
    """What a number that a decimal cannot hold means, whoever finds it; ``name`` is ``table.column``."""
    return ValueBeyondRepresentation(
        f"a value does not fit {field.type} ({BEYOND[Kind.DECIMAL]}, or more digits than the catalog says); "
        "declare the column `as_text: true` in the catalog, or run `export-pipelines catalog check`",
        field=name,
    )


def _check_range(values: pa.Array, kind: Kind, name: str) -> None:
    integer, low, high = _RANGES[kind]
    bounds = pc.min_max(values.view(integer))
    least, most = bounds["min"].as_py(), bounds["max"].as_py()
    if least is not None and (least < low or most > high):
        raise ValueBeyondRepresentation(
            f"a {kind} is {BEYOND[kind]}, which files cannot hold as a {kind}; "
            "declare the column `as_text: true` in the catalog",
            field=name,
        )


def require_tenant(
    batch: pa.RecordBatch,
    tenant_id: str,
    table: str,
    *,
    null_is_shared: bool = False,
    same: Callable[[list[str]], bool] | None = None,
) -> None:
    """That the last column, the tenant of each row, is this tenant throughout; the last line of defence.

    ``same`` is asked whether other texts are the tenant's id to the database as well (`ACME` of a citext key).
    """
    owners = batch.column(batch.num_columns - 1)
    others = foreign_owners(owners, tenant_id, null_is_shared=null_is_shared)
    if others and (None in others or same is None or not same([text for text in others if text is not None])):
        raise IntegrityViolation(f"{table}: rows of another tenant arrived; nothing was written")


def foreign_owners(owners: pa.Array, tenant_id: str, *, null_is_shared: bool) -> list[str | None]:
    """The distinct texts in a column of tenants that are not the tenant's id letter by letter."""
    if len(owners) == 0 or pc.all(pc.equal(owners, tenant_id), skip_nulls=False).as_py() is True:
        return []
    allowed = {tenant_id, None} if null_is_shared else {tenant_id}
    return [text for text in pc.unique(owners).to_pylist() if text not in allowed]


_CHECK = "run `export-pipelines catalog check`"
