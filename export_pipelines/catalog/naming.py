"""What the names and types of columns suggest: what to call them, which one tells the time.

Guesses for a first catalog, which people then correct; nothing here reads a database. How delicate a column is:
`sensitivity`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

from export_pipelines.catalog.inventory import LiveColumn
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
_DELETED_NAMES = ("deleted_at", "deleted_on", "removed_at")
_DELETED_FLAGS = ("is_deleted", "deleted", "is_removed", "removed", "soft_deleted", "is_soft_deleted")
# Times that move, lie ahead or belong to somebody's life do not say when a row came to be.
_OTHER_TIMES = re.compile(
    r"(^|_)(update[ds]?|modified|deleted|removed|expire[sd]?|expiry|due|birth|dob|last|next|until)(_|$)"
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
    """The column that marks deleted rows: a time that is NULL in the others, or a boolean that is false in them.

    A time that is NOT NULL says nothing without the value that means "not deleted", which only people know.
    """
    time = _first_time({name: column for name, column in columns.items() if not column.not_null}, _DELETED_NAMES)
    if time is not None:
        return time
    by_key = {slug(name): column for name, column in columns.items()}
    flags = (by_key[name] for name in (*_DELETED_FLAGS, *_DELETED_NAMES) if name in by_key)
    return next((column.name for column in flags if value_type(column.type).kind is Kind.BOOLEAN), None)


def alive_when(column: LiveColumn) -> bool | None:
    """What a `deleted_column` holds in rows that are not deleted, beside NULL."""
    return False if value_type(column.type).kind is Kind.BOOLEAN else None


def relation_name(columns: tuple[str, ...], referenced: str, *, taken: Collection[str]) -> str:
    """``store_id`` → ``store``; a composite key is called after the table it leads to."""
    base = slug(columns[0]) if len(columns) == 1 else referenced
    return slug(base.removesuffix("_id") or base, taken=taken)


def _first_time(columns: Mapping[str, LiveColumn], names: tuple[str, ...]) -> str | None:
    by_key = {slug(name): column for name, column in columns.items()}
    found = (by_key[name] for name in names if name in by_key and value_type(by_key[name].type).kind in _TIME_KINDS)
    return next((column.name for column in found), None)
