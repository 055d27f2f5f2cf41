"""What a caller may export, and how."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import CurrentRequest
from export_pipelines.core.access import Action, Role, require
from export_pipelines.core.catalog import Catalog, Classification, Table
from export_pipelines.core.destinations import Carries, Effect
from export_pipelines.core.filtering import filterable
from export_pipelines.core.measures import Aggregation, Function
from export_pipelines.core.packing import ARCHIVE
from export_pipelines.destinations.registry import all_destinations, open_destinations
from export_pipelines.formats.registry import all_formats
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.settings import Settings

router = APIRouter(prefix="/api/v1/exports", tags=["catalog"], responses=ANSWERS)


class ColumnOut(BaseModel):
    name: str
    type: str
    classification: Classification
    nullable: bool
    description: str | None
    label: str | None
    masked: str | None = Field(description="Why its values are always NULL.")
    filterable: bool = Field(description="Whether `filters` may name it.")


class MeasureOut(BaseModel):
    name: str
    function: Function
    column: str | None
    label: str | None
    description: str | None


class TableOut(BaseModel):
    name: str
    description: str | None
    module: str | None
    primary_key: list[str]
    time_column: str | None = Field(description="What `filters.date_range` limits; without one there is no range.")
    soft_deletes: bool = Field(description="Whether `filters.include_deleted` makes a difference.")
    columns: list[ColumnOut]
    dimensions: list[str] = Field(description="What its measures may be grouped by.")
    measures: list[MeasureOut] = Field(description="What `aggregation` gives for each period; none: there is none.")


class FormatOut(BaseModel):
    name: str
    title: str
    aliases: list[str]
    extension: str
    media_type: str
    options: dict[str, Any] = Field(description="JSON Schema of each option.")


class DestinationOut(BaseModel):
    """A kind of destination, as an entry of `delivery` names it."""

    method: str
    title: str
    carries: Carries = Field(description="What goes there: a notice with a link, the files, or nothing.")
    effect: Effect = Field(description="How often a recipient can see one delivery when something fails in between.")
    available: bool = Field(description="Whether the service is set up for it.")
    options: dict[str, Any] = Field(description="JSON Schema of each field beside `method`.")
    example: dict[str, Any]


class CatalogOut(BaseModel):
    name: str
    title: str | None
    description: str | None
    timezone: str = Field(description="In which a date of `filters.date_range` begins.")
    tables: list[TableOut]
    formats: list[FormatOut]
    compressions: list[str]
    encryption_methods: list[str]
    split_by: list[str]
    delivery_methods: list[str]
    destinations: list[DestinationOut]
    modules: dict[str, list[str]] = Field(description="Groups of tables that `modules` may name.")
    aggregations: list[Aggregation]


@router.get("/catalog", summary="Get the catalog", response_model=CatalogOut)
def get_catalog(context: CurrentRequest) -> CatalogOut:
    """Only what the caller's role may export."""
    require(context.caller, Action.SEE_CATALOG)
    catalog = context.services.catalog
    return CatalogOut(
        name=catalog.name,
        title=catalog.title,
        description=catalog.description,
        timezone=catalog.timezone,
        tables=[_table(name, table) for name, table in _open_to(context.caller.role, catalog)],
        formats=[
            FormatOut(
                name=spec.name,
                title=spec.title,
                aliases=list(spec.aliases),
                extension=spec.extension,
                media_type=spec.media_type,
                options=spec.options.model_json_schema().get("properties", {}) if spec.options else {},
            )
            for spec in all_formats().values()
        ],
        compressions=["none", *CODECS, ARCHIVE],
        encryption_methods=["AES256", "age"],
        split_by=["month", "week", "size"],
        delivery_methods=list(all_destinations()),
        destinations=_destinations(context.services.settings),
        modules=_modules(context.caller.role, catalog),
        aggregations=list(Aggregation),
    )


def _open_to(role: Role, catalog: Catalog) -> list[tuple[str, Table]]:
    return [
        (name, table) for name, table in catalog.tables.items() if role is Role.OPERATOR or str(role) in table.roles
    ]


def _destinations(settings: Settings) -> list[DestinationOut]:
    here = open_destinations(settings)
    return [
        DestinationOut(
            method=spec.name,
            title=spec.title,
            carries=spec.carries,
            effect=spec.effect,
            available=spec.open is None or here.configured(spec.name),
            options={
                name: schema
                for name, schema in spec.target.model_json_schema().get("properties", {}).items()
                if name != "method"
            },
            example=dict(spec.example),
        )
        for spec in all_destinations().values()
    ]


def _modules(role: Role, catalog: Catalog) -> dict[str, list[str]]:
    """Those with a table for this role."""
    tables = {name for name, _ in _open_to(role, catalog)}
    open_to = {module: [name for name in names if name in tables] for module, names in catalog.modules.items()}
    return {module: names for module, names in open_to.items() if names}


def _table(name: str, table: Table) -> TableOut:
    return TableOut(
        name=name,
        description=table.description,
        module=table.module,
        primary_key=list(table.primary_key),
        time_column=table.time_column,
        soft_deletes=table.deleted_column is not None,
        columns=[
            ColumnOut(
                name=column,
                type=spec.type,
                classification=spec.classification,
                nullable=spec.nullable,
                description=spec.description,
                label=spec.label,
                masked=spec.mask,
                filterable=column in filterable(table),
            )
            for column, spec in table.columns.items()
            if spec.exported
        ],
        dimensions=list(table.dimensions),
        measures=[MeasureOut(name=measure, **spec.model_dump()) for measure, spec in table.measures.items()],
    )
