"""SQL text as the tokens of PostgreSQL's lexer, as far as DDL that this program writes has them.

PostgreSQL must never see another token than was seen here, so whatever it would read in a way of its own is refused:
dollar quotes, block comments, Unicode escapes, national strings, parameters, letters outside ASCII without quotes.
Rules: PostgreSQL's manual, "Lexical Structure", with ``standard_conforming_strings`` on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from export_pipelines.core.errors import RequestRejected


class Kind(Enum):
    """What a token is."""

    WORD = "word"  # a keyword or a name without quotes
    NAME = "name"  # a name in double quotes
    TEXT = "text"  # any string constant
    NUMBER = "number"
    SIGN = "sign"  # a bracket, a comma, an operator


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token and where it stands."""

    kind: Kind
    text: str  # as written
    start: int  # offset of its first character
    line: int  # from 1

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def name(self) -> str:
        """The identifier that it stands for."""
        return self.text[1:-1].replace('""', '"') if self.kind is Kind.NAME else self.text.lower()

    @property
    def value(self) -> str:
        """The text of a string constant; escapes other than of a backslash stay as they are written."""
        if self.text[0] in "eE":
            return self.text[2:-1].replace("''", "'").replace("\\\\", "\\")
        return self.text[1:-1].replace("''", "'")


_PATTERN = re.compile(
    r"""
    (?P<space>[ \t\n\r\f\v]+)
  | (?P<comment>--[^\n\r]*)
  | (?P<foreign>/\* | [uU]&['"] | [nN]' | \$)
  | (?P<text>'(?:[^']|'')*' | [eE]'(?:[^'\\]|\\.|'')*' | [bBxX]'[0-9a-fA-F]*')
  | (?P<name>"(?:[^"]|"")+")
  | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>:: | [()\[\],.;:] | [-+*/<>=~!@\#%^&|`?]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_JOINING = (Kind.WORD, Kind.NAME, Kind.TEXT, Kind.NUMBER)  # two of them in a row need space between them


def statements(text: str, where: str) -> Iterator[tuple[Token, ...]]:
    """The tokens of each statement, without its semicolon; comments of a line only between statements.

    `RequestRejected` names ``where`` and the line of what is not DDL of ours.
    """
    found: list[Token] = []
    for token in _tokens(text, where):
        if token.text == ";" and token.kind is Kind.SIGN:
            yield tuple(found)
            found = []
        elif token.text.startswith("--"):
            if found:
                raise refused(where, token.line, "a comment inside a statement")
        else:
            found.append(token)
    if found:
        yield tuple(found)


def refused(where: str, line: int, problem: str) -> RequestRejected:
    """The error for text that is not what this program writes."""
    return RequestRejected(
        f"{where} line {line} has {problem}, which a migration package never holds; no statement of it was run",
        field="PACKAGE",
    )


def _tokens(text: str, where: str) -> Iterator[Token]:
    place, line = 0, 1
    before: Token | None = None
    while place < len(text):
        match = _PATTERN.match(text, place)
        if match is None or match.lastgroup == "foreign":
            raise refused(where, line, f"{_shown(text[place : place + 2])}")
        written, kind = match.group(), match.lastgroup
        if kind == "sign" and ("--" in written or "/*" in written):
            raise refused(where, line, "a comment inside a statement")
        if kind == "comment":
            yield Token(kind=Kind.SIGN, text=written, start=place, line=line)
        elif kind != "space":
            token = Token(kind=Kind(kind), text=written, start=place, line=line)
            _require_apart(before, token, where)
            yield token
            before = token
        place, line = match.end(), line + written.count("\n")


def _require_apart(before: Token | None, token: Token, where: str) -> None:
    """Strings in a row are one string to PostgreSQL, and what touches may be another token."""
    if before is None:
        return
    if before.kind is Kind.TEXT and token.kind is Kind.TEXT:
        raise refused(where, token.line, "two strings in a row")
    if before.end == token.start and before.kind in _JOINING and token.kind in _JOINING:
        raise refused(where, token.line, f"{_shown(token.text[:1])} right behind a word")


def _shown(text: str) -> str:
    return "a character that stands for nothing here" if not text.isprintable() else repr(text)
