"""What pydantic refuses, as `RequestRejected`: the field, the value's problem and the next step, never the value."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from export_pipelines.core.errors import RequestRejected

_INSTANT = "is not an instant with its offset, such as 2024-01-31T12:00:00Z"
_EXPLAINED = {  # how pydantic's names of errors begin
    "extra_forbidden": "is not a known field; remove it or check its spelling",
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

_COLLECTIONS = frozenset({"List", "Tuple", "Set", "Frozenset", "Dictionary"})  # as pydantic names them
_MOST = {True: "least", False: "most"}


def explain(problem: Any) -> str:
    """One pydantic error as a sentence with a next step."""
    kind = str(problem["type"])
    if kind.endswith(("too_short", "too_long")):
        return _length(problem.get("ctx", {}), short=kind.endswith("short"))
    said = next((sentence for start, sentence in _EXPLAINED.items() if kind.startswith(start)), None)
    return said or str(problem["msg"]).removeprefix("Value error, ")


def _length(stated: Any, *, short: bool) -> str:
    """A list or an object says what it is; all else that has a length is a text, also one that is kept secret."""
    bound = stated["min_length" if short else "max_length"]
    if str(stated.get("field_type", "")) not in _COLLECTIONS:
        return "must not be empty" if short and bound == 1 else f"must have at {_MOST[short]} {bound} characters"
    if short and not stated["actual_length"]:
        return "is empty; name at least one" if bound == 1 else f"is empty; name at least {bound}"
    return f"must have at {_MOST[short]} {bound} entries"


def rejected(error: ValidationError, *, within: str = "", whole: str | None = None) -> RequestRejected:
    """The first problem. Its field is the path of the value, below ``within``; ``whole`` names the value itself when
    the problem is of no part of it.
    """
    place, sentence = _first(error)
    field = ".".join(part for part in (within, place) if part)
    return RequestRejected(sentence, field=field or whole)


def rejected_file(error: ValidationError, claim: str, *, field: str) -> RequestRejected:
    """The first problem of a file's content, where ``field`` is what named the file.

    ``claim`` says what the file is not, such as ``"keys.json is not a JSON Web Key Set"``.
    """
    place, sentence = _first(error)
    return RequestRejected(f"{claim}: {place or 'the whole'}: {sentence}", field=field)


def _first(error: ValidationError) -> tuple[str, str]:
    problem = error.errors(include_url=False, include_input=False)[0]
    return ".".join(str(part) for part in problem["loc"]), explain(problem)
