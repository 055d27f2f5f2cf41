"""A real S3 service: OpenStack Swift with its s3api, four processes on loopback.

It verifies signatures and expiry, knows multipart uploads and ranges, and ignores server-side encryption headers.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from export_pipelines_tests.servers.processes import HOST, ServerProcess, accepts, await_ready, ports

ACCESS_KEY_ID = "test:tester"
SECRET_ACCESS_KEY = "testing"
REGION = "us-east-1"
_STORAGE = ("account", "container", "object")

# One device holds the only replica of everything. A program of its own: importing Swift patches the interpreter.
_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *ports = sys.argv[1:]
for name, port in zip(("account", "container", "object"), ports):
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1,
                     "replication_ip": "127.0.0.1", "replication_port": int(port)})
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""
_SERVE = "import sys; from swift.common.wsgi import run_wsgi; sys.exit(run_wsgi(sys.argv[1], sys.argv[2]))"

_COMMON = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}
mount_check = false
log_address = {folder}/no-syslog
log_level = WARNING
"""
_STORAGE_SERVER = (
    _COMMON
    + """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
)
_PROXY_SERVER = (
    _COMMON
    + """
[pipeline:main]
pipeline = catch_errors healthcheck s3api tempauth slo dlo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
dns_compliant_bucket_names = false
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
"""
)


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """Where it answers and who may use it."""

    endpoint: str
    region: str = REGION
    access_key_id: str = ACCESS_KEY_ID
    secret_access_key: str = SECRET_ACCESS_KEY


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """The service, answering; its objects live below ``folder`` where that can hold extended attributes."""
    with _attribute_folder(folder) as home:
        proxy_port, *storage_ports = ports(1 + len(_STORAGE))
        (home / "disk").mkdir()
        _configure(home, proxy_port, storage_ports)
        ServerProcess("rings", ["-c", _RINGS, str(home), *map(str, storage_ports)], home).await_end()
        processes: list[ServerProcess] = []
        try:
            for name in (*_STORAGE, "proxy"):
                arguments = ["-c", _SERVE, str(home / f"{name}.conf"), f"{name}-server"]
                processes.append(ServerProcess(name, arguments, home))
            await_ready(lambda: all(map(accepts, storage_ports)) and _healthy(proxy_port), processes)
            yield S3Server(endpoint=f"http://{HOST}:{proxy_port}")
        finally:
            for process in reversed(processes):
                process.stop()


def _configure(home: Path, proxy_port: int, storage_ports: list[int]) -> None:
    (home / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = test\n")
    for name, port in zip(_STORAGE, storage_ports, strict=True):
        (home / f"{name}.conf").write_text(_STORAGE_SERVER.format(name=name, port=port, folder=home))
    (home / "proxy.conf").write_text(_PROXY_SERVER.format(port=proxy_port, folder=home))


def _healthy(port: int) -> bool:
    try:
        with urlopen(f"http://{HOST}:{port}/healthcheck", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def _attribute_folder(preferred: Path) -> Iterator[Path]:
    """Swift keeps metadata in extended attributes, which older tmpfs lacks."""
    for parent in (preferred, Path("/var/tmp"), Path.cwd()):
        with tempfile.TemporaryDirectory(prefix="s3-", dir=parent) as folder:
            try:
                os.setxattr(folder, "user.probe", b"1")
            except OSError:
                continue
            yield Path(folder)
            return
    raise RuntimeError("no folder with extended attributes; give pytest --basetemp on an ordinary file system")
