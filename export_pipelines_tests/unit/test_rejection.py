"""What is said of values of the wrong kind or length."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, SecretStr, ValidationError

from export_pipelines.core.rejection import rejected


class Asked(BaseModel):
    names: tuple[str, ...] = Field(default=("a",), min_length=1, max_length=2)
    pair: tuple[str, ...] = Field(default=("a", "b"), min_length=2)
    word: str = Field(default="w", min_length=1, max_length=5)
    password: Annotated[SecretStr, Field(min_length=8, max_length=10)] = SecretStr("12345678")
    values: dict[str, int] = Field(default={"a": 1}, min_length=1)
    count: int = 1
    wanted: bool = True


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("names", [], "names: is empty; name at least one"),
        ("names", ["a", "b", "c"], "names: must have at most 2 entries"),
        ("names", "pets", "names: must be a list"),
        ("names", {}, "names: must be a list"),
        ("names", 5, "names: must be a list"),
        ("names", [5], "names.0: must be a text"),
        ("pair", [], "pair: is empty; name at least 2"),
        ("pair", ["a"], "pair: must have at least 2 entries"),
        ("word", "", "word: must not be empty"),
        ("word", [], "word: must be a text"),
        ("word", "abcdef", "word: must have at most 5 characters"),
        ("password", "abc", "password: must have at least 8 characters"),
        ("password", "", "password: must have at least 8 characters"),
        ("password", "abcdefghijk", "password: must have at most 10 characters"),
        ("values", {}, "values: is empty; name at least one"),
        ("values", [], "values: must be an object with named fields"),
        ("count", "many", "count: must be a whole number"),
        ("wanted", "perhaps", "wanted: must be true or false"),
    ],
)
def test_the_explanation_is_of_the_kind_that_the_value_should_have(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Asked.model_validate({field: value})
    assert str(rejected(caught.value)) == message
