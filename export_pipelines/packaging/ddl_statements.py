"""The statements that the scripts of a migration package may hold: those that this program writes, and no others.

`restore` reads every script by these rules before it runs the first statement, and a package is only made of scripts
that pass. A statement either makes a type, a sequence or a table in a schema of the package, or changes a table or a
sequence that a statement before it has made. What its expressions may call is known to the database alone:
`export_pipelines.sources.expressions`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from export_pipelines.packaging.ddl_parsing import AFTER_FOREIGN_KEY, AFTER_KEY, Made, Parser, Place
from export_pipelines.packaging.ddl_tokens import Kind, Token, refused, statements

Rule = Callable[[Parser], None]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement that may be run, alone."""

    text: str
    where: str  # file and line


class ScriptReader:
    """Reads the scripts of one package in the order in which they run. `RequestRejected` names file and line."""

    def __init__(self, schemas: Collection[str]) -> None:
        """``schemas`` are those that the package makes besides its own."""
        self._made = Made(schemas=schemas)

    @property
    def tables(self) -> Mapping[Place, str]:
        """Tables made so far, as they are written, by schema (None: the package's own) and name."""
        return self._made.tables

    def schema(self, text: str, where: str) -> list[Statement]:
        """What makes types, sequences and tables."""
        return self._read(text, where, _BEFORE_ROWS)

    def constraints(self, text: str, where: str) -> list[Statement]:
        """What comes after the rows."""
        return self._read(text, where, _AFTER_ROWS)

    def require_type(self, text: str, where: str) -> None:
        """Accept nothing but the name of a type."""
        found = list(statements(text, where))
        if len(found) != 1 or not found[0]:
            raise refused(where, 1, "no type, or more than one,")
        parser = Parser(self._made, found[0], where)
        parser.type()
        parser.end()

    def _read(self, text: str, where: str, rules: Mapping[str, Rule]) -> list[Statement]:
        return [self._statement(text, tokens, where, rules) for tokens in statements(text, where)]

    def _statement(self, text: str, tokens: tuple[Token, ...], where: str, rules: Mapping[str, Rule]) -> Statement:
        beginning = " ".join(token.name for token in tokens[:2] if token.kind is Kind.WORD)
        rule = rules.get(beginning)
        if rule is None:
            line = tokens[0].line if tokens else 1
            raise refused(where, line, f"the statement {beginning.upper()[:60]!r}")
        parser = Parser(self._made, tokens, where)
        rule(parser)
        parser.end()
        return Statement(text=text[tokens[0].start : tokens[-1].end], where=f"{where} line {tokens[0].line}")


def _create_type(parser: Parser) -> None:
    parser.words("create", "type")
    place, _ = parser.new(parser.made.types)
    parser.words("as")
    if parser.skip("enum"):
        parser.listed(parser.literal)
    elif parser.skip("range"):
        parser.listed(lambda: _range_option(parser))
    else:
        parser.listed(lambda: _attribute(parser))
    parser.made.types.add(place)


def _attribute(parser: Parser) -> None:
    parser.identifier()
    parser.type()
    parser.collation()


def _range_option(parser: Parser) -> None:
    name = parser.identifier()
    parser.sign("=")
    if name == "subtype":
        parser.type()
    elif name == "multirange_type_name":
        parser.new(parser.made.types)
    elif name in ("subtype_opclass", "collation", "subtype_diff"):
        parser.place()
    else:
        raise parser.refuse(f"the option {name} of a range")


def _create_domain(parser: Parser) -> None:
    parser.words("create", "domain")
    place, _ = parser.new(parser.made.types)
    parser.words("as")
    parser.type()
    parser.collation()
    if parser.skip("default"):
        parser.bracketed()
    parser.skip("not", "null")
    while parser.is_word("constraint"):
        parser.named_constraint()
        parser.check()
    parser.made.types.add(place)


def _create_sequence(parser: Parser) -> None:
    parser.words("create", "sequence")
    place, written = parser.new([*parser.made.sequences, *parser.made.tables])
    parser.words("as")
    parser.type()
    parser.sequence_options()
    parser.made.sequences[place] = written


def _create_table(parser: Parser) -> None:
    parser.words("create", "table")
    place, written = parser.new([*parser.made.sequences, *parser.made.tables])
    parser.listed(lambda: _table_item(parser))
    parser.made.tables[place] = written


def _table_item(parser: Parser) -> None:
    if parser.is_word("constraint"):  # a column of that name is quoted, as PostgreSQL reserves the word
        parser.named_constraint()
        parser.check()
        return
    parser.identifier()
    parser.type()
    parser.collation()
    if parser.skip("default"):
        parser.bracketed()
    elif parser.skip("generated"):
        _generated(parser)
    parser.skip("not", "null")


def _generated(parser: Parser) -> None:
    if not parser.skip("by", "default"):
        parser.words("always")
    parser.words("as")
    if parser.skip("identity"):
        parser.sign("(")
        parser.sequence_options()
        parser.sign(")")
    else:
        parser.bracketed()
        if not parser.skip("virtual"):
            parser.words("stored")


def _alter_table(parser: Parser) -> None:
    parser.words("alter", "table")
    parser.table()
    if parser.skip("alter", "column"):
        parser.identifier()
        parser.words("set", "default")
        parser.bracketed()
        return
    parser.words("add")
    parser.named_constraint()
    if parser.is_word("check"):
        parser.check()
    elif parser.skip("foreign", "key"):
        parser.names()
        parser.words("references")
        parser.table()
        parser.names()
        _behind_a_foreign_key(parser)
    elif parser.skip("exclude"):
        parser.words("using")
        _index_body(parser)
        if parser.skip("where"):
            parser.bracketed()
        parser.some_of(AFTER_KEY)
    else:
        if not parser.skip("primary", "key"):
            parser.words("unique")
            parser.skip("nulls", "not", "distinct")
        parser.names()
        if parser.skip("include"):
            parser.names()
        parser.storage()
        parser.some_of(AFTER_KEY)


def _behind_a_foreign_key(parser: Parser) -> None:
    parser.some_of(AFTER_FOREIGN_KEY)
    if parser.is_sign("("):  # ON DELETE SET NULL (columns)
        parser.names()
        parser.some_of(AFTER_FOREIGN_KEY)


def _index_body(parser: Parser) -> None:
    parser.identifier()
    parser.bracketed()
    if parser.skip("include"):
        parser.names()
    parser.skip("nulls", "not", "distinct")
    parser.storage()


def _create_index(parser: Parser) -> None:
    parser.words("create")
    parser.skip("unique")
    parser.words("index")
    parser.identifier()
    parser.words("on")
    parser.table()
    parser.words("using")
    _index_body(parser)
    if parser.skip("where"):
        parser.to_the_end()


def _alter_sequence(parser: Parser) -> None:
    parser.words("alter", "sequence")
    parser.sequence()
    parser.words("owned", "by")
    one, two = parser.identifier(), None
    parser.sign(".")
    two = parser.identifier()
    place: Place = (None, one)
    if parser.is_sign("."):
        parser.sign(".")
        place = (one, two)
        parser.identifier()
    if place not in parser.made.tables:
        raise parser.refuse(f"table {place[1]!r}, which the package does not make")


def _set_position(parser: Parser) -> None:
    """``SELECT pg_catalog.setval('numbers', max(value)) FROM (SELECT max(a) AS value FROM t) AS held HAVING …``."""
    _call(parser, "select", "setval")
    if parser.is_word("pg_catalog"):
        _call(parser, None, "pg_get_serial_sequence")
        if parser.literal().value not in parser.made.tables.values():
            raise parser.refuse("the sequence of a table that the package does not make")
        parser.sign(",")
        parser.literal()
        parser.sign(")")
    elif parser.literal().value not in parser.made.sequences.values():
        raise parser.refuse("the position of a sequence that the package does not make")
    parser.sign(",")
    _farthest(parser, "value")
    parser.sign(")")
    parser.words("from")
    parser.sign("(")
    _column_of_table(parser)
    while parser.skip("union", "all"):
        _column_of_table(parser)
    parser.sign(")")
    parser.words("as", "held")
    parser.words("having")
    _farthest(parser, "value")
    parser.words("between")
    parser.number()
    parser.words("and")
    parser.number()


def _call(parser: Parser, before: str | None, function: str) -> None:
    if before:
        parser.words(before)
    parser.words("pg_catalog")
    parser.sign(".")
    parser.words(function)
    parser.sign("(")


def _farthest(parser: Parser, column: str | None) -> None:
    parser.words("pg_catalog")
    parser.sign(".")
    if not parser.skip("max"):
        parser.words("min")
    parser.sign("(")
    if column is None:
        parser.identifier()
    else:
        parser.words(column)
    parser.sign(")")


def _column_of_table(parser: Parser) -> None:
    parser.words("select")
    if parser.is_word("pg_catalog"):
        _farthest(parser, None)
        parser.words("as", "value", "from")
        parser.table()
    else:  # where the source's own sequence stands
        parser.number()
        parser.words("as", "value")


_BEFORE_ROWS: Mapping[str, Rule] = {
    "create type": _create_type,
    "create domain": _create_domain,
    "create sequence": _create_sequence,
    "create table": _create_table,
}
_AFTER_ROWS: Mapping[str, Rule] = {
    "alter table": _alter_table,
    "alter sequence": _alter_sequence,
    "create index": _create_index,
    "create unique": _create_index,
    "select pg_catalog": _set_position,
}
