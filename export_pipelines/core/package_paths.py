"""Paths of files inside a package: which are allowed, and which two would be the same file for some reader.

A signed package must unpack to the same files everywhere, so the rules are the strictest of what extracting programs
and file systems do to names: Windows, macOS, `unzip`, 7-Zip and Python's `zipfile`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_FILES = 100_000  # of a package; a thousand tables make some thousand files
_MAX_PATH = 1000  # characters
_MAX_DEPTH = 30
_MAX_SEGMENT_BYTES = 255  # of the usual file systems
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # macOS and terminals ignore many of them
# An 8.3 name of Windows: to open `PETSOF~1.CSV` opens `petsofours.csv`.
_SHORT_NAME = re.compile(r"(?=[^.]{1,8}(?:\.|$))[^.]*~[0-9]+(?:\.[^.]{1,3})?")
# Windows drops dots and blanks at the end of a name, unzip a version of VMS (`pets.csv;1`).
_DROPPED_END = re.compile(r"(?:[ .]|;[0-9]*)+$")
_ESCAPED = re.compile(r"#(?:U([0-9a-f]{4})|L([0-9a-f]{6}))", re.IGNORECASE)  # as unzip writes it in a C locale
_REPLACED = str.maketrans(dict.fromkeys('<>|"?*', "_"))  # Python's zipfile and 7-Zip on Windows
_LAST_CHARACTER = 0x10FFFF


def path_problem(path: str) -> str | None:
    """Why a relative path with forward slashes is not allowed; None where it is."""
    segments = path.split("/")
    problem = None
    if len(path) > _MAX_PATH or any(len(segment.encode(errors="replace")) > _MAX_SEGMENT_BYTES for segment in segments):
        problem = f"is longer than {_MAX_PATH} characters, or {_MAX_SEGMENT_BYTES} bytes between slashes"
    elif len(segments) > _MAX_DEPTH:
        problem = f"is deeper than {_MAX_DEPTH} folders"
    elif not path or path.startswith("/"):
        problem = "is not a relative path"
    elif "\\" in path:
        problem = "has a backslash, which is a folder for some programs"
    elif ":" in path:
        problem = "has a colon, which is a drive or a stream on Windows"
    elif any(unicodedata.category(char) in _INVISIBLE for char in path):
        problem = "has a control or invisible character"
    elif any(not reader_key(segment) for segment in segments):
        problem = "has a segment that is empty, '.', '..' or one that programs drop"
    elif any(_SHORT_NAME.fullmatch(segment) for segment in segments):
        problem = "looks like the short name of another file on Windows"
    return problem


def paths_problem(paths: Iterable[str]) -> str | None:
    """The first path that is not allowed, or that some reader takes for another one, and why; None where all are fine.

    Compared as no reader tells them apart (`reader_key`); a file is never also a folder, and a folder is spelled in
    one way.
    """
    known: dict[str, tuple[str, bool]] = {}  # key: (spelling, whether it is a folder)
    for path in paths:
        problem = path_problem(path)
        if problem is not None:
            return f"{shown(path)} {problem}"
        segments = path.split("/")
        keys = [reader_key(segment) for segment in segments]
        for depth in range(1, len(segments) + 1):
            spelling, is_folder = "/".join(segments[:depth]), depth < len(segments)
            key = "/".join(keys[:depth])
            other, other_is_folder = known.get(key, (spelling, is_folder))
            if not is_folder and other == path and not other_is_folder and key in known:
                return f"{shown(path)} is there twice, and programs take one or the other"
            if (other, other_is_folder) != (spelling, is_folder):
                return f"{shown(other)} and {shown(path)} are the same name to some programs"
            known[key] = (spelling, is_folder)
    return None


def reader_key(segment: str) -> str:
    """One for all spellings of a file name that some program or file system takes for the same file; may be empty."""
    text = _ESCAPED.sub(_unescaped, segment)
    for _ in range(2):  # folding may undo a normal form (Unicode, NFKC_Casefold)
        text = unicodedata.normalize("NFKD", text).upper().casefold()
    return _DROPPED_END.sub("", unicodedata.normalize("NFKC", text).translate(_REPLACED))


def shown(path: str) -> str:
    """A path as a message may show it: short, and without characters that steer a terminal."""
    text = path if path.isprintable() else ascii(path)[1:-1]
    return text if len(text) <= _MAX_SEGMENT_BYTES else f"{text[:_MAX_SEGMENT_BYTES]}…"


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1] or found[2], 16)
    return chr(code) if code <= _LAST_CHARACTER else found[0]
