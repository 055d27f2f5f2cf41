"""How commands speak: people's lines or JSON on standard output, errors on standard error, documented exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from export_pipelines.core.errors import Cancelled, ExportError, IntegrityViolation, RequestRejected, Unavailable

OK, FAILED, BAD_REQUEST, INTEGRITY, UNAVAILABLE, CANCELLED = 0, 1, 2, 3, 4, 5
SIGNATURE = 6  # of a package whose content is as its manifest says, but nobody trusted says so
_CODES: dict[type[ExportError], int] = {
    RequestRejected: BAD_REQUEST,
    IntegrityViolation: INTEGRITY,
    Unavailable: UNAVAILABLE,
    Cancelled: CANCELLED,
}
_CODE_OF_TYPE = {kind.error_type: code for kind, code in _CODES.items()}

_PIPED_WIDTH = 240  # what reads a pipe cuts lines itself; a shortened id would be of no use to it

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def exit_code(error_type: str | None) -> int:
    """The code for an ``error_type`` as requests store it."""
    return OK if error_type is None else _CODE_OF_TYPE.get(error_type, FAILED)


@contextmanager
def reported(*, as_json: bool = False) -> Iterator[None]:
    """Turn our errors, and Ctrl-C, into a message and an exit code."""
    try:
        yield
    except ExportError as error:
        stop(str(error), error.error_type, as_json=as_json)
    except KeyboardInterrupt:
        stop("interrupted", Cancelled.error_type, as_json=as_json)


def stop(message: str, error_type: str, *, as_json: bool) -> NoReturn:
    """Say what is wrong and leave."""
    if as_json:
        say_json({"error": {"type": error_type, "message": message}})
    else:
        err.print(Text.assemble(("error", "bold red"), " ", plain(message, lines=True)))
    raise typer.Exit(exit_code(error_type))


def say_json(document: Any) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2, default=str, ensure_ascii=False)
    sys.stdout.write("\n")


def say(line: str = "") -> None:
    out.print(plain(line))


def plain(text: object, *, lines: bool = False) -> Text:
    """Words of others as a terminal may show them: no markup, and whatever would steer the terminal or forge a line is
    spelled out. ``lines`` keeps line breaks.
    """
    return Text(
        "".join(char if char.isprintable() or (lines and char == "\n") else _spelled(char) for char in str(text))
    )


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode()


def size(size_bytes: int | None) -> str:
    """Bytes for people: ``1.2 MB``."""
    value = float(size_bytes or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
