"""Walking over the tokens of a DDL statement: names, types, expressions and clauses as PostgreSQL prints them.

What a statement as a whole may be is in `export_pipelines.packaging.ddl_statements`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from export_pipelines.core.errors import RequestRejected
from export_pipelines.packaging.ddl_tokens import Kind, Token, refused

Place = tuple[str | None, str]  # schema, None for the package's own, and name

# Words that follow the first one of a type's name.
_TYPE_WORDS = {"varying", "precision", "with", "without", "time", "zone", "to"} | {
    *("year", "month", "day", "hour", "minute", "second")
}
# Words behind any constraint, and behind a foreign key.
AFTER_KEY = {"deferrable", "initially", "deferred", "immediate", "not", "valid", "enforced", "no", "inherit"}
AFTER_FOREIGN_KEY = AFTER_KEY | {
    *("match", "full", "simple", "partial", "on", "update", "delete", "cascade", "restrict", "set", "null", "default"),
    "action",
}
_SEQUENCE_WORDS = {"increment", "by", "minvalue", "maxvalue", "start", "with", "cache", "no", "cycle"}
_QUERYING = {"select", "values", "table"}  # PostgreSQL quotes columns of these names
# Words that begin a clause; as names they are quoted.
_RESERVED = {
    *("all", "check", "collate", "constraint", "default", "foreign", "from", "like", "not", "null", "on", "primary"),
    *("references", "select", "table", "union", "unique", "using", "where", "with"),
}


@dataclass(kw_only=True)
class Made:
    """What the statements so far have made; of a table and a sequence also how its name is written."""

    schemas: Collection[str]  # besides the package's own, which names leave out
    types: set[Place] = field(default_factory=set)
    tables: dict[Place, str] = field(default_factory=dict)
    sequences: dict[Place, str] = field(default_factory=dict)


class Parser:
    """Walks over the tokens of one statement. Every method consumes what it is named after, or refuses it."""

    def __init__(self, made: Made, tokens: tuple[Token, ...], where: str) -> None:
        self.made = made
        self._tokens = tokens
        self._where = where
        self._next = 0

    # Single tokens --------------------------------------------------------------------------------------------------

    def token(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def is_word(self, *words: str) -> bool:
        """Whether these words are next; without any: whether a word is."""
        ahead = self._tokens[self._next : self._next + (len(words) or 1)]
        found = [token.name for token in ahead if token.kind is Kind.WORD]
        return found == list(words) if words else bool(found)

    def is_sign(self, sign: str) -> bool:
        token = self.token()
        return token is not None and token.kind is Kind.SIGN and token.text == sign

    def skip(self, *words: str) -> bool:
        """Over these words, where they are next."""
        found = self.is_word(*words)
        self._next += len(words) if found else 0
        return found

    def words(self, *words: str) -> None:
        if not self.skip(*words):
            raise self.refuse(f"no {' '.join(words).upper()} where it belongs")

    def sign(self, sign: str) -> None:
        if not self.is_sign(sign):
            raise self.refuse(f"no {sign!r} where it belongs")
        self._next += 1

    def literal(self) -> Token:
        return self._one(Kind.TEXT, "string")

    def number(self) -> None:
        if self.is_sign("-"):
            self._next += 1
        self._one(Kind.NUMBER, "number")

    def identifier(self) -> str:
        token = self.token()
        if token is None or token.kind not in (Kind.WORD, Kind.NAME):
            raise self.refuse("no name where one belongs")
        if token.kind is Kind.WORD and token.name in _RESERVED:
            raise self.refuse(f"{token.name.upper()} where a name belongs")
        self._next += 1
        return token.name

    def some_of(self, words: Collection[str]) -> None:
        """Any of these words, any number of them."""
        while (token := self.token()) is not None and token.kind is Kind.WORD and token.name in words:
            self._next += 1

    def end(self) -> None:
        if self.token() is not None:
            raise self.refuse("more than belongs there")

    def refuse(self, problem: str) -> RequestRejected:
        token = self.token() or self._tokens[-1]
        begin = " ".join(t.name.upper() for t in self._tokens[:2] if t.kind is Kind.WORD)
        return refused(self._where, token.line, f"{problem} (in {begin})")

    def _one(self, kind: Kind, what: str) -> Token:
        token = self.token()
        if token is None or token.kind is not kind:
            raise self.refuse(f"no {what} where one belongs")
        self._next += 1
        return token

    # Names ----------------------------------------------------------------------------------------------------------

    def place(self) -> tuple[Place, str]:
        """A name, perhaps with a schema, and how it is written."""
        first = self._next
        one = self.identifier()
        place: Place = (None, one)
        if self.is_sign("."):
            self.sign(".")
            place = (one, self.identifier())
        return place, "".join(token.text for token in self._tokens[first : self._next])

    def new(self, made: Collection[Place]) -> tuple[Place, str]:
        """The name of something to make, in a schema of the package."""
        place, written = self.place()
        if place[0] is not None and place[0] not in self.made.schemas:
            raise self.refuse(f"something in schema {place[0]!r}, which migration.other_schemas does not name")
        if place in made:
            raise self.refuse(f"{written} a second time")
        return place, written

    def table(self) -> str:
        """A table that the package has made."""
        place, written = self.place()
        if place not in self.made.tables:
            raise self.refuse(f"table {written}, which the package does not make")
        return written

    def sequence(self) -> str:
        place, written = self.place()
        if place not in self.made.sequences:
            raise self.refuse(f"sequence {written}, which the package does not make")
        return written

    def names(self) -> None:
        """Names in brackets: columns, also ``PERIOD name`` and ``name WITHOUT OVERLAPS``."""
        self.listed(self._column)

    def _column(self) -> None:
        self.identifier()
        if not self.skip("without", "overlaps") and not self.is_sign(",") and not self.is_sign(")"):
            self.identifier()

    def listed(self, item: Callable[[], object]) -> None:
        """Items in brackets, with commas between them; a table may have none."""
        self.sign("(")
        while not self.is_sign(")"):
            item()
            if not self.is_sign(")"):
                self.sign(",")
        self.sign(")")

    def type(self) -> None:
        """A type as ``format_type`` prints one: ``timestamp(3) with time zone[]``."""
        self.place()
        self.some_of(_TYPE_WORDS)
        if self.is_sign("("):
            self.listed(self._modifier)
            self.some_of(_TYPE_WORDS)
        while self.is_sign("["):
            self.sign("[")
            self.sign("]")

    def _modifier(self) -> None:
        if self.is_word():
            self.identifier()
        else:
            self.number()

    def collation(self) -> None:
        if self.skip("collate"):
            self.place()

    # Expressions ----------------------------------------------------------------------------------------------------

    def bracketed(self) -> None:
        """An expression in brackets; what it calls is looked at in the database."""
        self.sign("(")
        self._expression(until=")")
        self.sign(")")

    def to_the_end(self) -> None:
        """An expression that ends with the statement."""
        self._expression(until=None)

    def _expression(self, until: str | None) -> None:
        open_: list[str] = []  # closing brackets that are due
        first = self._next
        while (token := self.token()) is not None:
            if token.kind is Kind.WORD and token.name in _QUERYING:
                raise self.refuse(f"{token.name.upper()} in an expression")
            if token.kind is Kind.SIGN:
                if not open_ and token.text == until:
                    break
                if token.text in "([":
                    open_.append(")" if token.text == "(" else "]")
                elif token.text in ")]" and (not open_ or open_.pop() != token.text):
                    raise self.refuse("brackets that do not match")
            self._next += 1
        if open_ or self._next == first:
            raise self.refuse("an expression that is empty or not closed")

    # Parts of several statements ------------------------------------------------------------------------------------

    def sequence_options(self) -> None:
        before = None
        while before != self._next:
            before = self._next
            self.some_of(_SEQUENCE_WORDS)
            token = self.token()
            if token is not None and (token.kind is Kind.NUMBER or token.text == "-"):
                self.number()

    def check(self) -> None:
        self.words("check")
        self.bracketed()
        self.some_of(AFTER_KEY)

    def named_constraint(self) -> None:
        self.words("constraint")
        self.identifier()

    def storage(self) -> None:
        """``WITH (fillfactor='70')``."""
        if self.skip("with"):
            self.listed(self._parameter)

    def _parameter(self) -> None:
        self.identifier()
        self.sign("=")
        if self.is_word():
            self.identifier()
        else:
            self.literal()
