"""Where the code server listens: the kernel takes no long paths."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from export_pipelines.embedded.services import socket_folder


@pytest.mark.parametrize("home", ["short", "/".join(["a-long-name-of-a-folder"] * 12)])
def test_the_socket_of_any_home_can_be_bound_and_is_private(tmp_path: Path, home: str) -> None:
    (tmp_path / home / "dagster").mkdir(parents=True, mode=0o700)
    with socket_folder(tmp_path / home) as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "code.sock"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.is_relative_to(tmp_path) == (home == "short")
    assert folder.exists() == (home == "short")
