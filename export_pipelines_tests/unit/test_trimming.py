"""Logs of a service that runs for months stay within their limit, and whoever writes them goes on."""

from __future__ import annotations

from pathlib import Path

from export_pipelines.embedded.trimming import trim_logs


def test_a_log_beyond_its_limit_is_put_aside_once_and_written_on(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    with log.open("ab", buffering=0) as writer:
        for generation in (b"a", b"b"):
            writer.write(generation * 11)
            assert trim_logs([log], limit_bytes=10) == [log]
            assert log.with_name("daemon.log.1").read_bytes() == generation * 11
        writer.write(b"later")
        assert log.read_bytes() == b"later"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1"]


def test_a_log_within_its_limit_or_not_there_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_bytes(b"x" * 10)
    assert trim_logs([log, tmp_path / "none.log"], limit_bytes=10) == []
    assert [path.name for path in tmp_path.iterdir()] == ["api.log"]
