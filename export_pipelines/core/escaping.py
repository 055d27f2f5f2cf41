"""Keeps spreadsheets from running text as formulas, and gives the text back unchanged.

Here is the rule and its one-value form; the form for whole columns is in `export_pipelines.formats.rendering`, and a
format decides which of its cells are text. The patterns mean the same to Python, Rust's regex and RE2.

A text is dangerous when a spreadsheet could take its start for a formula (OWASP ASVS 5.3.10: ``= + - @``, TAB, CR, LF
and their full-width forms), also behind blanks or apostrophes. It gets one more apostrophe in front. Apostrophes count
as part of the start, so the rule is its own proof of reversibility: no untouched text looks like an escaped one.
"""

from __future__ import annotations

import re

ESCAPE = "'"
_START = "[' \u00a0]*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
DANGEROUS = f"^({_START})"  # group 1 is to be put behind an ESCAPE
ESCAPED = f"^'({_START})"  # group 1 is the original start

_dangerous = re.compile(DANGEROUS)
_escaped = re.compile(ESCAPED)


def neutralise(text: str) -> str:
    """The text as a spreadsheet may show it; `restore` reverses this for every text."""
    return _dangerous.sub(r"'\1", text)


def restore(cell: str) -> str:
    """The text that `neutralise` was given."""
    return _escaped.sub(r"\1", cell)
