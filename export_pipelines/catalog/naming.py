"""What the names and types of columns suggest: what to call them, which one tells the time.

Guesses for a first catalog, which people then correct; nothing here reads a database. How delicate a column is:
`sensitivity`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

from export_pipelines.catalog.inventory import LiveColumn
from export_pipelines.core.columns import Column
from export_pipelines.core.soft_delete import alive_text
from export_pipelines.core.types import Kind, value_type

_LONGEST_NAME = 63
_PLURALS = {
    "people": "person",
    "children": "child",
    "men": "man",
    "women": "woman",
    "mice": "mouse",
    "indices": "index",
    "statuses": "status",
    "aliases": "alias",
    "diagnoses": "diagnosis",
    "analyses": "analysis",
    "news": "news",
    "series": "series",
    "staff": "staff",
    "data": "data",
}
# The first ending that fits, and what comes in its place.
_SINGULARS = (
    ("ss", "ss"),
    ("us", "us"),
    ("is", "is"),
    ("ies", "y"),
    ("sses", "ss"),
    ("xes", "x"),
    ("zzes", "zz"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("s", ""),
)
_TIME_NAMES = ("created_at", "inserted_at", "created_on", "created", "created_date", "creation_date", "create_date")
_TIME_ENDINGS = ("_at", "_date", "_on", "_time", "_ts")
_DELETED_NAMES = ("deleted_at", "deleted_on", "deleted_date", "removed_at", "discarded_at")
_DELETED_FLAGS = (
    "is_deleted", "deleted", "is_removed", "removed", "soft_deleted", "is_soft_deleted", "discarded", "is_discarded",
    "deleted_flag", "delete_flag", "del_flag",
)  # fmt: skip
_COUNTS = ("removed", "discarded")  # a number of that name is rather a count
_LITERAL = re.compile(r"^'((?:[^']|'')*)'(?:::[\w .\"]+(?:\(\d+(?:,\d+)?\))?)?$")  # a default that is a constant
_NUMBER = re.compile(r"^\(?(-?\d+)\)?(?:::\w+)?$")
# Times that move, lie ahead or belong to somebody's life do not say when a row came to be.
_OTHER_TIMES = re.compile(
    r"(^|_)(update[ds]?|modified|deleted|removed|expire[sd]?|expiry|due|birth|dob|last|next|until)(_|$)"
)
_ACTOR = re.compile(
    r"(^|_)((create|write|update|delete|change|modify|edit|approve|upload|invite|assign|close|archive|review)[a-z]*|added"
    r"|written|modified|sent|last_\w+)_(by|uid|user)(_id|_uuid|_user_id)?$"
    r"|^(author|creator|editor|assignee|reviewer|approver|uploader|inviter|modifier)(_id|_uuid|_user_id)?$"
)
_TIME_KINDS = (Kind.INSTANT, Kind.TIMESTAMP, Kind.DATE)


def slug(name: str, *, taken: Collection[str] = ()) -> str:
    """A catalog key for any PostgreSQL name: ``Order Details`` → ``order_details``; a number where it is taken."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain).lower()
    key = re.sub(r"[^a-z0-9_]+", "_", words).strip("_") if not re.match(r"^[a-z_][a-z0-9_]*$", name) else name
    key = (f"t_{key}" if not key or key[0].isdigit() else key)[:_LONGEST_NAME]
    candidate, number = key, 2
    while candidate in taken:
        suffix = f"_{number}"
        candidate, number = key[: _LONGEST_NAME - len(suffix)] + suffix, number + 1
    return candidate


def spelled_plainly(name: str) -> str:
    """What all spellings of a name have in common: ``customer_id``, ``CustomerId`` and ``customerid`` → customerid."""
    return slug(name).replace("_", "")


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name in any spelling, in lower case and in the singular: ``userAPIKeys`` → user, api, key."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return tuple(
        singular(word.lower()) for word in re.findall(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+", plain)
    )


def singular(word: str) -> str:
    """An English noun's singular, as far as endings tell it."""
    if word in _PLURALS:
        return _PLURALS[word]
    for ending, instead in _SINGULARS:
        if word.endswith(ending):
            return word.removesuffix(ending) + instead
    return word


def noun_stem(name: str) -> str:
    """The same for a noun and its plural, to compare names by: ``line_caches`` and ``line_cache`` → line_cach."""
    head, underscore, last = name.rpartition("_")
    return head + underscore + re.sub(r"ie$", "y", singular(last)).removesuffix("e")


def time_column(columns: Iterable[LiveColumn]) -> LiveColumn | None:
    """When a row came to be: NOT NULL before nullable, well-known names first, then the order of the columns.

    A nullable one is taken only where its name says what it is.
    """
    ranked = []
    for position, column in enumerate(columns):
        key = slug(column.name)
        if value_type(column.type).kind not in _TIME_KINDS or _OTHER_TIMES.search(key):
            continue
        if key in _TIME_NAMES:
            rank = _TIME_NAMES.index(key)
        elif key.endswith(_TIME_ENDINGS):
            rank = len(_TIME_NAMES)
        elif column.not_null:
            rank = len(_TIME_NAMES) + 1
        else:
            continue
        ranked.append(((not column.not_null, rank, position), column))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def deleted_column(columns: Mapping[str, LiveColumn]) -> str | None:
    """The column that marks deleted rows, if it is clear what it holds in the others.

    That is NULL in a time that may be, false in a boolean, and otherwise the constant that the column has by default.
    """
    by_key = {slug(name): column for name, column in columns.items()}
    named = [by_key[name] for name in (*_DELETED_NAMES, *_DELETED_FLAGS) if name in by_key]
    named = [c for c in named if slug(c.name) not in _COUNTS or value_type(c.type).kind is not Kind.INTEGER]
    for meant in (_null_when_alive, lambda column: alive_when(column) is not None):
        found = next((column.name for column in named if meant(column)), None)
        if found is not None:
            return found
    return None


def _null_when_alive(column: LiveColumn) -> bool:
    return value_type(column.type).kind in _TIME_KINDS and not column.not_null and alive_when(column) is None


def alive_when(column: LiveColumn) -> bool | int | str | None:
    """What a `deleted_column` holds in rows that are not deleted, beside NULL: false, or its constant default."""
    if value_type(column.type).kind is Kind.BOOLEAN:
        return None if column.default == "true" else False
    text = column.default or ""
    value: int | str
    if number := _NUMBER.match(text):
        value = int(number[1])
    elif literal := _LITERAL.match(text):
        value = _iso(column, literal[1].replace("''", "'"))
    else:
        return None
    try:
        alive_text(Column(type=column.type), value)
    except ValueError:
        return None
    return value


def _iso(column: LiveColumn, printed: str) -> str:
    """A time as `alive_when` wants it; PostgreSQL prints an instant as ``9999-12-31 00:00:00+00``."""
    if value_type(column.type).kind not in _TIME_KINDS:
        return printed
    moment = printed.replace(" ", "T", 1)
    return re.sub(r"(T.*[+-]\d\d)$", r"\1:00", moment).replace("+00:00", "Z")


def names_an_actor(column: str) -> bool:
    """Whether a reference tells who did something with the row, not whose it is: ``create_uid``, ``author_id``."""
    return _ACTOR.search(slug(column)) is not None


def relation_name(columns: tuple[str, ...], referenced: str, *, taken: Collection[str]) -> str:
    """``store_id`` → ``store``; a composite key is called after the table it leads to."""
    base = slug(columns[0]) if len(columns) == 1 else referenced
    return slug(base.removesuffix("_id") or base, taken=taken)


def _first_time(columns: Mapping[str, LiveColumn], names: tuple[str, ...]) -> str | None:
    by_key = {slug(name): column for name, column in columns.items()}
    found = (by_key[name] for name in names if name in by_key and value_type(by_key[name].type).kind in _TIME_KINDS)
    return next((column.name for column in found), None)
