"""A configuration keeps what was written beside what was checked, alone and inside of a larger body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from export_pipelines.core.configuration import MAX_CONFIGURATION_BYTES, Configuration, ExportConfig
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.rejection import rejected, rejected_file

WRITTEN: dict[str, Any] = {
    "tables": ["pets"],
    "format": "csv",
    "encryption": {"method": "aes256", "password": "right horse battery"},
}


class Body(BaseModel):
    """A body with a configuration in it."""

    name: str
    config: Configuration = Field(description="What is saved.")


def test_what_was_written_is_kept_as_it_is_beside_what_was_checked() -> None:
    parsed = Body(name="n", config=WRITTEN).config  # type: ignore[arg-type]
    assert parsed == Configuration.of(WRITTEN)
    assert parsed.written is WRITTEN
    assert parsed.config == ExportConfig.model_validate(WRITTEN)
    assert "right horse" not in repr(parsed)


def test_it_is_documented_as_the_configuration_that_it_holds() -> None:
    body = Body.model_json_schema()
    assert body["properties"]["config"] == {"$ref": "#/$defs/ExportConfig", "description": "What is saved."}
    assert TypeAdapter(Configuration).json_schema() == ExportConfig.model_json_schema()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": 7}, "format"),
        ({"name": "a\0"}, "name"),
        ({"options": {"x": [1, float("inf")]}}, "options.x.1"),
        ({"options": {"x": "\ud800"}}, "options.x"),
        ({"name": "x" * MAX_CONFIGURATION_BYTES}, ""),
        ({"options": json.loads("[" * 900 + "]" * 900)}, "options"),
    ],
    ids=["type", "NUL", "infinity", "half a character", "size", "depth of another type"],
)
def test_what_is_wrong_is_named_by_its_path_wherever_the_configuration_stands(
    change: dict[str, Any], field: str
) -> None:
    wrong = {**WRITTEN, **change}
    with pytest.raises(RequestRejected) as alone:
        Configuration.of(wrong)
    assert alone.value.field == (field or "config")
    with pytest.raises(ValidationError) as inside:
        Body(name="n", config=wrong)  # type: ignore[arg-type]
    refused = rejected(inside.value)
    assert (refused.field, refused.message) == (f"config.{field}".rstrip("."), alone.value.message)
    assert "right horse" not in str(refused)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dateRange": {}}, "dateRange: is called `filters.date_range` here"),
        ({"DateFrom": "x"}, "DateFrom: is called `filters.date_range.start` here"),
        ({"exportType": "selective"}, r"exportType: is not a known field; did you mean `export_type`?"),
        ({"compresion": "zip"}, r"compresion: is not a known field; did you mean `compression`?"),
        ({"colour": "red"}, "colour: is not a known field; remove it or check its spelling"),
        ({"filters": {"dateRange": {}}}, "filters.dateRange: is called `filters.date_range` here"),
        (
            {"filters": {"date_range": {"from": "x"}}},
            "filters.date_range.from: is called `filters.date_range.start` here",
        ),
        (
            {"tables": None, "data_sources": [{"type": "pets", "columns": ["id"]}]},
            "data_sources.0.columns: is called `data_sources.0.fields` here",
        ),
        ({"encryption": {"password": 7}}, "encryption.password: must be a text"),
        ({"encryption": {"password": {"sealed": 7}}}, "encryption.password: must be a text"),
        ({"split_files": {"split_by": "year"}}, "split_files.split_by: must be 'month', 'week' or 'size'"),
        ({"format": None}, "format: must be a text"),
    ],
)
def test_what_is_unknown_is_told_what_it_is_called_here(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestRejected) as refused:
        Configuration.of({**WRITTEN, **change})
    assert str(refused.value) == said
    with pytest.raises(ValidationError) as inside:
        Body(name="n", config={**WRITTEN, **change})  # type: ignore[arg-type]
    nested = rejected(inside.value, model=Body)
    assert nested.field == f"config.{refused.value.field}"
    if "called" in said:  # by its whole path
        assert "is called `config." in nested.message


def test_a_problem_has_its_place_below_what_was_read() -> None:
    with pytest.raises(ValidationError) as found:
        Body.model_validate({"config": WRITTEN})
    assert rejected(found.value, within="body").field == "body.name"
    with pytest.raises(ValidationError) as whole:
        Body.model_validate([])
    assert rejected(whole.value).field is None
    assert rejected(whole.value, whole="body").field == "body"
    said = rejected_file(whole.value, "keys.json is not a key set", field="--keys")
    assert (said.field, said.message.startswith("keys.json is not a key set: the whole: ")) == ("--keys", True)
