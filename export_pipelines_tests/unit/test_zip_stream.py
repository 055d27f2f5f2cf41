"""Our ZIP writer, read by the standard library."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from export_pipelines.archives import zip_stream
from export_pipelines.archives.zip_stream import ZipStream
from export_pipelines.archives.zip_structure import read_structure


class Pipe(io.RawIOBase):
    """A sink that can neither seek nor tell."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.content += data
        return len(data)


def test_whole_and_streamed_entries_are_read_back() -> None:
    pipe = Pipe()
    archive = ZipStream(pipe)  # type: ignore[arg-type]
    archive.add("whole", b"abc")
    entry = archive.stream("folder/streamed")
    for _ in range(1000):
        entry.write(b"0123456789")
    entry.close()
    archive.add("empty", b"")
    archive.close()
    assert not pipe.closed
    with zipfile.ZipFile(io.BytesIO(pipe.content)) as found:
        assert found.testzip() is None
        assert found.namelist() == ["whole", "folder/streamed", "empty"]
        assert found.read("whole") == b"abc"
        assert found.read("folder/streamed") == b"0123456789" * 1000
        assert {info.date_time for info in found.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_more_entries_than_sixteen_bits_count_use_zip64(tmp_path: Path) -> None:
    with (tmp_path / "many.zip").open("w+b") as sink:
        archive = ZipStream(sink)
        for number in range(0xFFFF):
            archive.add(str(number), b"")
        archive.close()
        with zipfile.ZipFile(sink) as found:
            assert len(found.namelist()) == 0xFFFF
    assert len(read_structure(tmp_path / "many.zip")) == 0xFFFF


def test_entries_beyond_four_gigabytes_are_found(tmp_path: Path) -> None:
    with (tmp_path / "sparse.zip").open("w+b") as sink:
        archive = ZipStream(sink)
        archive.add("near", b"near")
        sink.seek(5 << 30)  # stands for entries that nobody wants to wait for
        archive._offset = 5 << 30
        archive.add("far", b"far")
        archive.close()
        with zipfile.ZipFile(sink) as found:
            assert (found.read("near"), found.read("far")) == (b"near", b"far")


def test_an_entry_that_outgrows_its_header_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_stream, "MAX_ENTRY_BYTES", 10)
    entry = ZipStream(io.BytesIO()).stream("large")
    with pytest.raises(ValueError, match="exceeds 10 bytes"):
        entry.write(b"x" * 11)
