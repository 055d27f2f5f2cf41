"""Whether a call wants the bytes it names, and which part of them (RFC 9110, 13 and 14). Tags are strong: they stand
for the same bytes for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bytes ``start`` to ``end``, which is not included."""

    start: int
    end: int

    def content_range(self, size_bytes: int) -> str:
        return f"bytes {self.start}-{self.end - 1}/{size_bytes}"


def wanted_part(request: Request, tag: str, size_bytes: int, *, resumable: bool = True) -> Part | HTTPStatus:
    """A part, 200 for the whole, or why there are no bytes: 304, 412 or 416, in the order of RFC 9110, 13.2.2.

    What a server may ignore (14.2) is ignored: several ranges, other units, what is no range, a range of another
    version, and every range of an empty file, which many clients ask for without knowing.
    """
    if "if-match" in request.headers and not _names(request, "if-match", tag, weak=False):
        return HTTPStatus.PRECONDITION_FAILED
    if _names(request, "if-none-match", tag, weak=True):
        return HTTPStatus.NOT_MODIFIED
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or not resumable or not size_bytes or request.method != "GET":
        return HTTPStatus.OK
    if request.headers.get("if-range", tag).strip() != tag:
        return HTTPStatus.OK
    first, last, suffix = found.groups()
    if suffix is not None:
        start, end = max(size_bytes - int(suffix), 0), size_bytes
    else:
        start, end = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
        if last and int(last) < start:
            return HTTPStatus.OK  # no range at all (14.1.1)
    return Part(start=start, end=end) if start < size_bytes else HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def _names(request: Request, header: str, tag: str, *, weak: bool) -> bool:
    """Whether a list of tags names this one; ``weak`` comparison takes a weak one of the same text for it."""
    listed = ",".join(request.headers.getlist(header)).strip()
    return listed == "*" or any(found[2] == tag and (weak or not found[1]) for found in _TAG.finditer(listed))
