"""Rules about the deliveries of an export: user input, like all of planning. What each kind takes is its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from export_pipelines.core.catalog import Catalog, Classification
from export_pipelines.core.configuration import DeliveryTarget
from export_pipelines.core.destinations import DestinationSpec, Target
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import PlannedDelivery, TableSelection
from export_pipelines.core.rejection import rejected
from export_pipelines.core.suggestions import did_you_mean

_DELICATE = (Classification.PERSONAL, Classification.SENSITIVE)
_NAMED = 5  # columns in a message


def deliveries_of(
    entries: Sequence[DeliveryTarget],
    destinations: Mapping[str, DestinationSpec],
    selections: Sequence[TableSelection],
    catalog: Catalog,
    *,
    sealed: bool,
) -> tuple[PlannedDelivery, ...]:
    """One for each recipient; the first entry that names a recipient counts.

    Readable files may only be sent away when the place they go to may hold what is in them.
    """
    planned: dict[tuple[str, str], PlannedDelivery] = {}
    for place, entry in enumerate(entries):
        spec = _spec_of(entry, place, destinations)
        target = target_of(entry, place, spec)
        exposing = spec.exposes_files(target)
        if exposing and not sealed:
            _require_harmless(selections, catalog, f"delivery.{place}.{exposing}")
        options = target.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"method"})
        for recipient in spec.recipients(target):
            delivery = PlannedDelivery(method=spec.name, recipient=recipient, options=options)
            planned.setdefault((spec.name, recipient), delivery)
    return tuple(planned.values())


def target_of(entry: DeliveryTarget, place: int, spec: DestinationSpec) -> Target:
    """The entry as its method knows it; `RequestRejected` names the field."""
    try:
        return spec.target.model_validate(entry.model_dump())
    except ValidationError as error:
        raise rejected(error, model=spec.target, within=f"delivery.{place}") from error


def _spec_of(entry: DeliveryTarget, place: int, destinations: Mapping[str, DestinationSpec]) -> DestinationSpec:
    try:
        return destinations[entry.method]
    except KeyError as error:
        raise RequestRejected(
            f"{entry.method!r} is not a way to deliver; choose from {', '.join(destinations)}"
            f"{did_you_mean(entry.method, destinations)}",
            field=f"delivery.{place}.method",
        ) from error


def _require_harmless(selections: Iterable[TableSelection], catalog: Catalog, field: str) -> None:
    delicate = [
        f"{selection.table}.{name}"
        for selection in selections
        for name, column in catalog.shape(selection.table, selection.aggregation).columns.items()
        if name in selection.columns and column.mask is None and column.classification in _DELICATE
    ]
    if delicate:
        more = f" and {len(delicate) - _NAMED} more" if len(delicate) > _NAMED else ""
        raise RequestRejected(
            f"would leave personal or sensitive columns readable in mailboxes: {', '.join(delicate[:_NAMED])}{more}; "
            "encrypt the export, leave the columns out by fields, or send the link only",
            field=field,
        )


def check_line(value: str, field: str) -> None:
    """That a text cannot end the line it is put into."""
    if not is_line(value):
        raise RequestRejected(LINE_NEEDED, field=field)


LINE_NEEDED = "must not hold line breaks or control characters"


def is_line(value: str) -> bool:
    """Whether a text fits into one line."""
    return not any(ord(char) < ord(" ") or char == "\x7f" for char in value)
