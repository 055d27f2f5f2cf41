"""Compressions of single files: what one library writes, programs of others read, and the same bytes each time."""

from __future__ import annotations

import io
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.packaging.codecs import CODECS, Codec, codec_of_file, reading_plain
from export_pipelines.packaging.sinks import compressed

ROWS = b"".join(b"%d,%d,2024-01-01\r\n" % (number, number * 7919 % 100_003) for number in range(300_000))
PROGRAMS = {"gzip": ["gzip", "-dc"], "bz2": ["bzip2", "-dc"], "zstd": ["zstd", "-dcq"]}
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def written(codec: Codec, content: bytes, piece: int) -> bytes:
    sink = io.BytesIO()
    with compressed(cast("BinaryIO", sink), codec) as stream:
        for start in range(0, len(content), piece):
            stream.write(content[start : start + piece])
    return sink.getvalue()


@codecs
@pytest.mark.parametrize("content", [ROWS, b"x", b""], ids=["many rows", "a byte", "nothing"])
def test_the_program_of_the_format_and_our_reader_give_the_bytes_back(
    codec: Codec, content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / f"rows.csv{codec.suffix}"
    file.write_bytes(written(codec, content, 1 << 20))
    assert subprocess.run([*PROGRAMS[codec.name], str(file)], check=True, capture_output=True).stdout == content
    with reading_plain(codec, file, file.name) as plain:
        assert plain.read() == content


@codecs
def test_equal_rows_give_equal_bytes_however_they_arrive(codec: Codec) -> None:
    once = written(codec, ROWS, 1 << 20)
    assert [written(codec, ROWS, piece) == once for piece in (1 << 20, 99_991, 7_000_000)] == [True] * 3


@codecs
@pytest.mark.parametrize("damage", ["cut", "half", "longer", "another format"])
def test_a_file_that_is_not_whole_is_never_read_as_one(codec: Codec, damage: str, tmp_path: Path) -> None:
    whole = written(codec, ROWS, 1 << 20)
    shapes = {"cut": whole[:-3], "half": whole[: len(whole) // 2], "longer": whole + b"??", "another format": ROWS}
    file = tmp_path / f"rows{codec.suffix}"
    file.write_bytes(shapes[damage])
    with (
        pytest.raises(IntegrityViolation, match=f"not a whole {codec.name} file"),
        reading_plain(codec, file, "f") as plain,
    ):
        plain.read()


@codecs
def test_an_error_while_rows_are_written_leaves_no_whole_stream(codec: Codec, tmp_path: Path) -> None:
    sink = io.BytesIO()
    with suppress(RuntimeError), compressed(cast("BinaryIO", sink), codec) as stream:
        stream.write(ROWS)
        raise RuntimeError
    file = tmp_path / "rows"
    file.write_bytes(sink.getvalue())
    with pytest.raises(IntegrityViolation), reading_plain(codec, file, "f") as plain:
        plain.read()


@codecs
def test_a_missing_file_is_not_called_damaged(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), reading_plain(codec, tmp_path / "nothing", "f"):
        pass


@codecs
def test_a_file_tells_its_codec_by_its_name(codec: Codec) -> None:
    assert codec_of_file(f"data/pets.csv{codec.suffix}") is codec
    assert codec_of_file("data/pets.csv") is None
