"""What pydantic refuses, as `RequestRejected`: the field, the value's problem and the next step, never the value.

Paths are those of the JSON that somebody wrote. Where a field takes one of several types pydantic puts the name of a
Python type into the path; it is taken out again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.suggestions import closest, in_snake_case

Location = tuple[int | str, ...]

_INSTANT = "is not an instant with its offset, such as 2024-01-31T12:00:00Z"
_UNKNOWN_FIELD = "extra_forbidden"
_EXPLAINED = {  # how pydantic's names of errors begin
    "missing": "is required",
    "string_type": "must be a text",
    "int_": "must be a whole number",
    "bool_": "must be true or false",
    "uuid_": "is not an id such as 0190b6c4-0000-7000-8000-000000000001",
    "model_": "must be an object with named fields",
    "dict_type": "must be an object with named fields",
    "tuple_type": "must be a list",
    "datetime_": _INSTANT,
    "timezone_aware": _INSTANT,
}
_SHOULD = re.compile(r"^[A-Z][a-z]+ should ")  # Input, String, Tuple

_COLLECTIONS = frozenset({"List", "Tuple", "Set", "Frozenset", "Dictionary"})  # as pydantic names them
_MOST = {True: "least", False: "most"}


def _length(stated: Any, *, short: bool) -> str:
    """A list or an object says what it is; all else that has a length is a text, also one that is kept secret."""
    bound = stated["min_length" if short else "max_length"]
    if str(stated.get("field_type", "")) not in _COLLECTIONS:
        return "must not be empty" if short and bound == 1 else f"must have at {_MOST[short]} {bound} characters"
    if short and not stated["actual_length"]:
        return "is empty; name at least one" if bound == 1 else f"is empty; name at least {bound}"
    return f"must have at {_MOST[short]} {bound} entries"


def explain(problem: Any, *, holder: type[BaseModel] | None = None, within: str = "") -> str:
    """One pydantic error as a sentence with a next step.

    ``holder`` is the model that the value is a field of, at the path ``within``: it knows what an unknown field may
    have been meant to be, by its own fields and by ``foreign_names``, a mapping of what fields are called elsewhere.
    """
    kind = str(problem["type"])
    if kind == _UNKNOWN_FIELD:
        return _unknown_field(str(problem["loc"][-1]), holder, within)
    if kind.endswith(("too_short", "too_long")):
        return _length(problem.get("ctx", {}), short=kind.endswith("short"))
    said = next((sentence for start, sentence in _EXPLAINED.items() if kind.startswith(start)), None)
    return said or _SHOULD.sub("must ", str(problem["msg"]).removeprefix("Value error, "))


def called_here(name: str, foreign_names: Mapping[str, str], *, within: str = "") -> str | None:
    """What is said of a field that has another name here; None for any other."""
    ours = foreign_names.get(in_snake_case(name))
    return f"is called `{_joined(within, ours)}` here" if ours else None


def _unknown_field(name: str, holder: type[BaseModel] | None, within: str) -> str:
    if holder is not None:
        if said := called_here(name, getattr(holder, "foreign_names", {}), within=within):
            return said
        if found := closest(name, holder.model_fields):
            return f"is not a known field; did you mean `{_joined(within, found)}`?"
    return "is not a known field; remove it or check its spelling"


def rejected(
    error: ValidationError, *, model: Any = None, within: str = "", whole: str | None = None
) -> RequestRejected:
    """The first problem. Its field is the path of the value, below ``within``; ``whole`` names the value itself when
    the problem is of no part of it. ``model`` is the type that was checked.
    """
    place, sentence = _first(error, model, within)
    return RequestRejected(sentence, field=_joined(within, place) or whole)


def rejected_file(error: ValidationError, claim: str, *, field: str) -> RequestRejected:
    """The first problem of a file's content, where ``field`` is what named the file.

    ``claim`` says what the file is not, such as ``"keys.json is not a JSON Web Key Set"``.
    """
    place, sentence = _first(error)
    return RequestRejected(f"{claim}: {place or 'the whole'}: {sentence}", field=field)


def _first(error: ValidationError, model: Any = None, within: str = "") -> tuple[str, str]:
    problem = error.errors(include_url=False, include_input=False)[0]
    return told(problem, model, within=within)


def told(problem: Any, model: Any, *, within: str = "", skip: int = 0) -> tuple[str, str]:
    """The path of a problem's value and the sentence about it; ``model`` is the type that holds the path without its
    first ``skip`` parts.
    """
    location, holder = as_written(tuple(problem["loc"])[skip:], model)
    place = ".".join(str(part) for part in location)
    outside = _joined(within, ".".join(str(part) for part in location[:-1]))
    return place, explain(problem, holder=holder, within=outside)


def as_written(location: Location, model: Any) -> tuple[Location, type[BaseModel] | None]:
    """A path without the names of Python's types, and the model that its last part is a field of, if it is of one."""
    kept: list[int | str] = []
    holder = None
    for part in location:
        choices = _choices(model)
        if len(choices) > 1:  # the part names one of them
            model = next((choice for choice in choices if getattr(choice, "__name__", None) == part), choices[0])
            continue
        kept.append(part)
        (model,) = choices
        holder = model if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = _within(model, holder, part)
    return tuple(kept), holder


def _choices(model: Any) -> list[Any]:
    """What a type stands for: itself, or the members of a union but None."""
    model = getattr(model, "documented_as", model)
    if get_origin(model) is Annotated:
        return _choices(get_args(model)[0])
    if get_origin(model) in (Union, UnionType):
        members = [member for member in get_args(model) if member is not NoneType]
        return members if len(members) > 1 else _choices(members[0])
    return [model]


def _within(model: Any, holder: type[BaseModel] | None, part: int | str) -> Any:
    if holder is not None:
        field = holder.model_fields.get(str(part))
        return field.annotation if field else None
    arguments = [argument for argument in get_args(model) if argument is not ...]
    return arguments[-1] if arguments else None


def _joined(*parts: str | None) -> str:
    return ".".join(part for part in parts if part)
