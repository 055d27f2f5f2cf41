"""The rows of one data file of a package, unpacked and read by its format's own reader.

Needs nothing but the file, so that whoever gets a package reads it as a run and a check do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from export_pipelines.core.errors import ExportError, IntegrityViolation
from export_pipelines.core.model import FilePart
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.packaging.codecs import codec_of_file, reading_plain
from export_pipelines.pipeline.verification.unpacking import copy_within_space


def read_part(spec: FormatSpec, path: Path, head: TableHead, part: FilePart) -> Iterable[pa.RecordBatch]:
    """The rows of one table in a plain (uncompressed) file, by the format's independent reader."""
    if part.route:
        assert spec.read_nested is not None
        return spec.read_nested(path, part.route, head)
    return spec.read(path, head)


@contextmanager
def plain_copy(stored: Path, name: str, scratch: Path) -> Iterator[Path]:
    """The file without its compression; a scratch copy that vanishes with the context."""
    codec = codec_of_file(name)
    if codec is None:
        yield stored
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        plain = Path(folder) / Path(name).stem
        with reading_plain(codec, stored, name) as source, plain.open("wb") as target:
            copy_within_space(source, target, plain.parent)
        yield plain


@contextmanager
def refusing_crafted(name: str) -> Iterator[None]:
    """What readers of our own files raise over bytes that somebody made up is beyond listing; the verdict is one."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        raise IntegrityViolation(f"{name} is not a file as this program writes it ({type(error).__name__})") from error
