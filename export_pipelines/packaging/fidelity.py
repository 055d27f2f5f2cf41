"""What the documents of a package say about columns that are not carried as what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export_pipelines.core.columns import Shape
from export_pipelines.core.fidelity import Carriage, Carried
from export_pipelines.core.model import StagedTable
from export_pipelines.core.ports import FormatSpec
from export_pipelines.core.types import BEYOND


def carried_as_text(table: Shape, staged: StagedTable, column: str) -> dict[str, str]:
    """Members for a column that this export had to carry as text; none for the others."""
    if column not in staged.as_text:
        return {}
    return {"carried_as": Carried.TEXT.value, "reason": f"holds {BEYOND[table.form_of(column).kind]}"}


def fidelity_notes(
    spec: FormatSpec,
    options: Mapping[str, Any],
    table: Shape,
    staged: StagedTable,
    settled: Mapping[str, Carriage],
) -> list[dict[str, str]]:
    """A note for each column that the format has no value of its own for, or not for all values.

    ``settled`` is what was decided about columns for this export, in the place of what might have been.
    """
    notes = []
    for field in table.arrow_schema(staged.columns, staged.as_text):
        forced, carriage = carried_as_text(table, staged, field.name), settled.get(field.name)
        carriage = carriage or spec.carries(field, options)
        if forced:
            note = f"this column {forced['reason']}, so all of its values are text"
            notes.append({"column": field.name, "carried_as": Carried.TEXT.value, "note": note})
        elif carriage.carried is not Carried.EXACT:
            notes.append({"column": field.name, "carried_as": carriage.carried.value, "note": carriage.note})
    return notes
