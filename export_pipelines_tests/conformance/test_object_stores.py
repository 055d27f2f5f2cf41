"""One suite for every object store, run on a local folder and on a real S3 service."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.ports import ObjectStore
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.object_stores.opening import open_store
from export_pipelines.object_stores.s3 import S3Store, s3_client
from export_pipelines_tests.servers.s3 import S3Server

PART = 5 * 1024 * 1024  # the least that S3 accepts
STRANGE_KEYS = [
    "a/plain.csv",
    "a/with space.csv",
    "a/100%25 #1 ?x=1&y=2+z.csv",
    "a/tenant=Zoë@example.com/файл-🐾.csv",
    "a/.hidden/..dots.csv",
    "a/\"quoted\" 'name'.csv",
]
BAD_KEYS = ["", "/a", "a//b", "../a", "a/../b", "a/..", "./a", "a/\x00", "a\\b", "a/.writing-1", "a/" + "ü" * 200]
BAD_KEYS.append("a/" * 600 + "a")


class Broken(BaseException):
    """Nothing that code expects."""


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "local":
        return LocalStore(tmp_path / "objects")
    api, bucket = request.getfixturevalue("s3_api"), request.getfixturevalue("s3_bucket")
    return S3Store(api, bucket, "tenants/exports", part_bytes=PART, copy_part_bytes=PART)


@pytest.fixture
def leftovers(store: ObjectStore, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], list[str]]:
    """Everything the store's service holds, also what the store itself would not list."""

    def local() -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in (tmp_path / "objects").rglob("*") if path.is_file()]

    def remote() -> list[str]:
        api, bucket = request.getfixturevalue("s3_api"), request.getfixturevalue("s3_bucket")
        objects = api.list_objects_v2(Bucket=bucket).get("Contents", [])
        uploads = api.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [entry["Key"] for entry in (*objects, *uploads)]

    return local if isinstance(store, LocalStore) else remote


def put(store: ObjectStore, key: str, content: bytes = b"content") -> None:
    with store.writing(key) as sink:
        sink.write(content)


def fail_while_writing(store: ObjectStore, key: str, content: bytes, error: BaseException) -> None:
    with store.writing(key) as sink:
        sink.write(content)
        raise error


def get(store: ObjectStore, key: str) -> bytes:
    with store.reading(key) as source:
        return source.read()


# Writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", STRANGE_KEYS)
def test_what_was_written_is_read_listed_and_deleted_under_the_same_key(store: ObjectStore, key: str) -> None:
    put(store, key, b"12345")
    assert get(store, key) == b"12345"
    assert store.exists(key)
    assert store.list("a") == [(key, 5)]
    with store.local(key) as path:
        assert path.read_bytes() == b"12345"
    assert store.delete(key) == 5
    assert not store.exists(key)
    assert store.list("") == []


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7])
def test_any_number_of_parts_comes_back_whole(store: ObjectStore, size: int) -> None:
    content = os.urandom(size)
    with store.writing("big") as sink:
        for start in range(0, size, 3_000_001):
            sink.write(content[start : start + 3_000_001])
        assert sink.tell() == size
    assert store.list("") == [("big", size)]
    assert get(store, "big") == content


def test_one_write_larger_than_several_parts_comes_back_whole(store: ObjectStore) -> None:
    content = os.urandom(2 * PART + 11)
    put(store, "big", memoryview(content))
    assert get(store, "big") == content


def test_an_object_appears_only_when_its_context_ends(store: ObjectStore) -> None:
    with store.writing("a/b") as sink:
        sink.write(b"x" * (PART + 1))
        assert not store.exists("a/b")
        assert store.list("") == []
    assert store.exists("a/b")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, Broken, OSError])
@pytest.mark.parametrize("size", [0, 10, 2 * PART + 1])
def test_an_error_while_writing_leaves_nothing(
    store: ObjectStore, leftovers: Callable[[], list[str]], error: type[BaseException], size: int
) -> None:
    with pytest.raises(error, match="mine"):
        fail_while_writing(store, "a/b", b"x" * size, error("mine"))
    assert leftovers() == []


def test_an_error_while_overwriting_keeps_the_old_object(store: ObjectStore) -> None:
    put(store, "a", b"old")
    with pytest.raises(ValueError, match="mine"):
        fail_while_writing(store, "a", b"new" * PART, ValueError("mine"))
    assert get(store, "a") == b"old"


def test_a_sink_that_a_library_closed_early_publishes_nothing(
    store: ObjectStore, leftovers: Callable[[], list[str]]
) -> None:
    def close_then_fail() -> None:
        with store.writing("a") as sink:
            text = io.TextIOWrapper(sink)
            text.write("half")
            text.close()  # what a wrapper does that is collected after an error
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        close_then_fail()
    assert leftovers() == []


def test_a_writer_that_closes_the_sink_is_told(store: ObjectStore, leftovers: Callable[[], list[str]]) -> None:
    def close_too_early() -> None:
        with store.writing("a") as sink:
            sink.write(b"x" * (PART + 1))
            sink.close()

    with pytest.raises(ValueError, match="closed"):
        close_too_early()
    assert leftovers() == []


def test_a_later_write_replaces_the_object(store: ObjectStore) -> None:
    put(store, "a", b"first, longer")
    put(store, "a", b"second")
    assert get(store, "a") == b"second"
    assert store.list("") == [("a", 6)]


def test_writers_of_one_key_at_once_leave_one_whole_object(store: ObjectStore) -> None:
    contents = [bytes([number]) * (PART + number) for number in range(4)]
    threads = [threading.Thread(target=put, args=(store, "a/b", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get(store, "a/b") in contents


# Reading ----------------------------------------------------------------------------------------------------------


def test_a_source_seeks(store: ObjectStore) -> None:
    content = bytes(range(256)) * 4000
    put(store, "a", content)
    with store.reading("a") as source:
        assert source.seekable()
        assert source.read(10) == content[:10]
        assert source.seek(-16, io.SEEK_END) == len(content) - 16
        assert source.read() == content[-16:]
        assert source.read() == b""
        assert source.seek(300_000) == 300_000
        assert source.read(5) == content[300_000:300_005]
        assert source.tell() == 300_005
        source.seek(5, io.SEEK_CUR)
        assert source.read(1) == content[300_010:300_011]


def test_an_empty_object_reads_as_nothing(store: ObjectStore) -> None:
    put(store, "a", b"")
    with store.reading("a") as source:
        assert source.read() == b""
        assert source.seek(0, io.SEEK_END) == 0


def test_arrow_writes_and_reads_parquet_through_it(store: ObjectStore) -> None:
    table = pa.table({"n": list(range(50_000)), "t": [str(n) for n in range(50_000)]})
    with store.writing("t.parquet") as sink, pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table, row_group_size=10_000)
    with store.reading("t.parquet") as source:
        assert pq.ParquetFile(source).read_row_group(3)["n"][0].as_py() == 30_000
    with store.reading("t.parquet") as source:
        assert pq.read_table(source).equals(table)


@pytest.mark.parametrize("use", ["reading", "local", "move"])
def test_a_missing_object_is_an_integrity_violation_that_names_it(store: ObjectStore, use: str) -> None:
    uses: dict[str, Callable[[], object]] = {
        "reading": lambda: get(store, "gone/x"),
        "local": lambda: store.local("gone/x").__enter__(),
        "move": lambda: store.move("gone/x", "y"),
    }
    with pytest.raises(IntegrityViolation, match="gone/x"):
        uses[use]()
    assert not store.exists("gone/x")


def test_a_remote_copy_vanishes_with_its_context(s3_store: S3Store) -> None:
    put(s3_store, "a/b.csv")
    with s3_store.local("a/b.csv") as path:
        assert path.name == "b.csv"
    assert not path.parent.exists()


# Listing, moving, deleting ----------------------------------------------------------------------------------------


def test_a_prefix_is_a_folder_and_never_matches_its_siblings(store: ObjectStore) -> None:
    for key in ("a/b/1", "a/b/c/2", "a/bc/3", "a/b.txt", "ab"):
        put(store, key, b"1")
    assert store.list("a/b") == [("a/b/1", 1), ("a/b/c/2", 1)]
    assert store.list("a/b/") == store.list("a/b")
    assert [key for key, _ in store.list("")] == ["a/b.txt", "a/b/1", "a/b/c/2", "a/bc/3", "ab"]
    assert store.list("nothing/here") == []


def test_deleting_a_prefix_frees_its_bytes_and_spares_its_siblings(store: ObjectStore) -> None:
    for key, size in (("a/b/1", 10), ("a/b/c/2", 20), ("a/bc/3", 40)):
        put(store, key, b"x" * size)
    assert store.delete("a/b") == 30
    assert store.list("") == [("a/bc/3", 40)]
    assert store.delete("a/b") == 0


def test_everything_at_once_is_not_a_prefix_to_delete(store: ObjectStore) -> None:
    put(store, "a")
    for prefix in ("", "/"):
        with pytest.raises(IntegrityViolation):
            store.delete(prefix)
    assert store.exists("a")


@pytest.mark.parametrize("size", [0, 3, 2 * PART + 1])
def test_a_move_renames_and_replaces(store: ObjectStore, size: int) -> None:
    content = os.urandom(size)
    put(store, "stage/ü 1%", content)
    put(store, "public/x/1", b"old")
    store.move("stage/ü 1%", "public/x/1")
    assert store.list("") == [("public/x/1", size)]
    assert get(store, "public/x/1") == content


def test_many_objects_move_in_their_order_and_none_that_comes_after_a_failure(store: ObjectStore) -> None:
    def moves() -> Iterator[tuple[str, str]]:
        for number in range(3):
            if number == 2:
                raise Unavailable("no longer ours")
            yield f"stage/r/{number}", f"public/r/{number}"

    for number in range(3):
        put(store, f"stage/r/{number}", bytes([number]))
    with pytest.raises(Unavailable, match="no longer ours"):
        store.move_all(moves())
    assert [key for key, _ in store.list("")] == ["public/r/0", "public/r/1", "stage/r/2"]
    store.move_all([("stage/r/2", "public/r/2")])
    assert [get(store, key) for key, _ in store.list("public")] == [b"\x00", b"\x01", b"\x02"]


def test_a_move_onto_itself_keeps_the_object(store: ObjectStore) -> None:
    put(store, "a/b", b"kept")
    store.move("a/b", "a/b")
    assert get(store, "a/b") == b"kept"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_could_leave_the_store_is_refused_everywhere(
    store: ObjectStore, leftovers: Callable[[], list[str]], key: str
) -> None:
    put(store, "good")
    uses: list[Callable[[], object]] = [
        lambda: put(store, key),
        lambda: get(store, key),
        lambda: store.exists(key),
        lambda: store.move("good", key),
        lambda: store.move(key, "good"),
        lambda: store.local(key).__enter__(),
        lambda: store.presigned_url(key, ttl=dt.timedelta(seconds=60), filename="x") or LocalStore.url(store, key),
    ]
    if key:
        uses += [lambda: store.list(key), lambda: store.delete(key)]
    for use in uses:
        with pytest.raises(IntegrityViolation):
            use()
    assert len(leftovers()) == 1


def test_a_symbolic_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("private")
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(IntegrityViolation, match="symbolic link"):
        get(LocalStore(tmp_path / "objects"), "link/file")


def test_a_neighbours_delete_never_disturbs_a_write(tmp_path: Path) -> None:
    store, stop = LocalStore(tmp_path), threading.Event()

    def churn() -> None:
        while not stop.is_set():
            put(store, "stage/other/1/file")
            store.delete("stage/other/1")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for number in range(300):
            put(store, f"stage/mine-{number}/1/file")
            store.delete(f"stage/mine-{number}/1")
    finally:
        stop.set()
        thread.join()
    assert list(tmp_path.rglob("*")) == []


# Killed writers ---------------------------------------------------------------------------------------------------

_KILLED = """
import sys
from export_pipelines.object_stores.opening import open_store
url, endpoint, key_id, secret = sys.argv[1:]
store = open_store(url, endpoint=endpoint or None, region="us-east-1", access_key_id=key_id, secret_access_key=secret)
with store.writing("stage/r/1/part") as sink:
    sink.write(b"x" * 40_000_000)
    sink.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


def _killed_writer(url: str, server: S3Server | None) -> None:
    credentials = [server.endpoint, server.access_key_id, server.secret_access_key] if server else ["", "", ""]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _KILLED, url, *credentials],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()


def test_deleting_a_prefix_also_frees_what_a_killed_writer_left(
    store: ObjectStore, leftovers: Callable[[], list[str]], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if isinstance(store, LocalStore):
        _killed_writer(str(tmp_path / "objects"), None)
    else:
        bucket = request.getfixturevalue("s3_bucket")
        _killed_writer(f"s3://{bucket}/tenants/exports", request.getfixturevalue("s3_server"))
    assert store.list("") == []
    assert len(leftovers()) == 1
    store.delete("stage/r/1")
    assert leftovers() == []


def test_writes_that_were_never_finished_are_dropped_by_their_age(
    store: ObjectStore, leftovers: Callable[[], list[str]], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    begun_at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=2)  # a service tells whole seconds
    if isinstance(store, LocalStore):
        _killed_writer(str(tmp_path / "objects"), None)
    else:
        bucket = request.getfixturevalue("s3_bucket")
        _killed_writer(f"s3://{bucket}/tenants/exports", request.getfixturevalue("s3_server"))
    put(store, "stage/r/1/whole")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    assert store.drop_unfinished("stage", before=begun_at).items == 0
    assert store.drop_unfinished("exports", before=later).items == 0
    assert store.drop_unfinished("stage", before=later, dry_run=True).items == 1
    assert len(leftovers()) == 2
    assert store.drop_unfinished("stage", before=later).items == 1
    assert store.drop_unfinished("stage", before=later).items == 0
    assert [key for key, _ in store.list("")] == ["stage/r/1/whole"]
    assert len(leftovers()) == 1


def test_a_scan_tells_sizes_and_ages_and_keeps_folders_together(store: ObjectStore) -> None:
    begun_at = dt.datetime.now(dt.UTC)
    keys = [f"stage/{folder}/{name}" for folder in ("r-1", "r", "r/2", "s") for name in ("b", "a/c", "a-c")]
    for key in keys:
        put(store, key, key.encode())
    put(store, "staged", b"x")
    found = list(store.scan("stage"))
    assert {entry.key: entry.size_bytes for entry in found} == {key: len(key) for key in keys}
    ages = [abs(entry.modified_at - begun_at) for entry in found]
    assert max(ages) < dt.timedelta(minutes=1)  # a service rounds, and has a clock of its own
    folders = [entry.key.split("/")[1] for entry in found]
    assert len(list(itertools.groupby(folders))) == len(set(folders))


# Stores that fail -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file of this process may grow beyond that many bytes; as a full disk, for any user."""
    before, limit = resource.getrlimit(resource.RLIMIT_FSIZE), 3_000_000
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("extra", [1, 2_000_000])
def test_a_disk_that_is_full_is_unavailable_and_nothing_is_left(tmp_path: Path, small_files: int, extra: int) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(Unavailable, match=r"cannot write .*a/b: .*; free space"):
        put(store, "a/b", b"x" * (small_files + extra))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not store.exists("a/b")


def test_arrow_hands_on_that_the_disk_is_full(tmp_path: Path, small_files: int) -> None:
    table = pa.table({"b": [os.urandom(100_000) for _ in range(100)]})
    store = LocalStore(tmp_path)
    with pytest.raises(Unavailable, match="free space"), store.writing("t") as sink:
        pq.write_table(table, sink)
    assert store.list("") == []


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot write"):
        put(LocalStore(tmp_path / "file"), "a/b")


def _uses(store: ObjectStore) -> list[Callable[[], object]]:
    return [
        lambda: put(store, "a"),
        lambda: put(store, "a", b"x" * (PART + 1)),
        lambda: get(store, "a"),
        lambda: store.list("a"),
        lambda: store.delete("a"),
        lambda: store.exists("a"),
        lambda: store.local("a").__enter__(),
        lambda: store.move("a", "b"),
    ]


@pytest.mark.parametrize("use", range(8))
@pytest.mark.parametrize("wrong", ["bucket", "secret", "key_id", "endpoint"])
def test_a_service_that_refuses_is_unavailable_and_never_shows_the_secret(
    s3_server: S3Server, s3_bucket: str, wrong: str, use: int
) -> None:
    if wrong == "bucket" and use in (5, 7):
        pytest.skip("S3 answers HEAD without a body: a missing bucket cannot be told from a missing object")
    secret = "not-the-secret" if wrong == "secret" else s3_server.secret_access_key
    client = s3_client(
        endpoint="http://127.0.0.1:9" if wrong == "endpoint" else s3_server.endpoint,
        region=s3_server.region,
        access_key_id="test:stranger" if wrong == "key_id" else s3_server.access_key_id,
        secret_access_key=secret,
        attempts=1,
    )
    bucket = "no-such-bucket" if wrong == "bucket" else s3_bucket
    store = S3Store(client, bucket, "p", part_bytes=PART)
    with pytest.raises(Unavailable) as caught:
        _uses(store)[use]()
    message = str(caught.value)
    assert f"s3://{bucket}/p/" in message
    assert str(client.meta.endpoint_url) in message
    assert "check bucket, keys and endpoint" in message
    assert secret not in message


def test_a_service_that_goes_away_in_the_middle_of_a_write_is_unavailable(s3_api: Any, s3_bucket: str) -> None:
    def lose_the_upload() -> None:
        with S3Store(s3_api, s3_bucket, part_bytes=PART).writing("a") as sink:
            sink.write(b"x" * (PART + 1))
            [upload] = s3_api.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]
            s3_api.abort_multipart_upload(Bucket=s3_bucket, Key="a", UploadId=upload["UploadId"])
            sink.write(b"x" * (PART + 1))

    with pytest.raises(Unavailable, match=s3_bucket):
        lose_the_upload()
    assert "Contents" not in s3_api.list_objects_v2(Bucket=s3_bucket)


# Links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "disposition"),
    [
        ("pets.csv", 'attachment; filename="pets.csv"'),
        (
            "Zoë's 5% файл.csv",
            (
                'attachment; filename="Zoe\'s 5_.csv"; '
                "filename*=UTF-8''Zo%C3%AB%27s%205%25%20%D1%84%D0%B0%D0%B9%D0%BB.csv"
            ),
        ),
        (
            'a"; x="\r\nSet-Cookie: b',
            "attachment; filename=\"a__ x=_Set-Cookie: b\"; filename*=UTF-8''a%22%3B%20x%3D%22Set-Cookie%3A%20b",
        ),
    ],
)
def test_a_presigned_link_downloads_under_the_files_name(s3_store: S3Store, filename: str, disposition: str) -> None:
    put(s3_store, "a/ü 1%.csv", b"pets")
    url = s3_store.presigned_url("a/ü 1%.csv", ttl=dt.timedelta(minutes=1), filename=filename)
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, b"pets")
    assert answer.headers["content-disposition"] == disposition
    assert httpx.get(url, headers={"Range": "bytes=1-2"}).content == b"et"


def test_a_presigned_link_dies_with_its_time(s3_store: S3Store) -> None:
    put(s3_store, "a")
    signed_at = time.monotonic()
    url = s3_store.presigned_url("a", ttl=dt.timedelta(seconds=3), filename="a")
    while (status := httpx.get(url).status_code) == 200 and time.monotonic() < signed_at + 30:
        time.sleep(0.2)
    assert status == 403
    assert 1.9 < time.monotonic() - signed_at < 30  # it lived (signatures count whole seconds), and it ended


def test_a_presigned_link_opens_nothing_else(s3_store: S3Store) -> None:
    put(s3_store, "a")
    put(s3_store, "b")
    url = s3_store.presigned_url("a", ttl=dt.timedelta(minutes=1), filename="a")
    assert httpx.get(url.replace("/exports/a?", "/exports/b?")).status_code == 403
    assert httpx.put(url, content=b"x").status_code == 403


def test_a_folder_has_no_presigned_links(tmp_path: Path) -> None:
    assert LocalStore(tmp_path).presigned_url("a", ttl=dt.timedelta(minutes=1), filename="a") is None


# Encryption by the service, and addresses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encryption", "headers"),
    [
        ({"ServerSideEncryption": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-1"},
            {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "key-1"},
        ),
        ({}, {}),
    ],
)
def test_every_way_to_make_an_object_asks_for_encryption(
    s3_server: S3Server, s3_bucket: str, encryption: dict[str, str], headers: dict[str, str]
) -> None:
    client = s3_client(
        endpoint=s3_server.endpoint,
        access_key_id=s3_server.access_key_id,
        secret_access_key=s3_server.secret_access_key,
    )
    sent: dict[str, dict[str, str]] = {}

    def note(model: Any, params: Any, **_: Any) -> None:
        """The headers just before they are signed; taken out, because this service knows no encryption."""
        names = [name for name in params["headers"] if name.lower().startswith("x-amz-server-side-encryption")]
        sent[model.name] = {name.lower(): params["headers"].pop(name) for name in names}

    client.meta.events.register("before-call.s3", note)
    store = S3Store(client, s3_bucket, encryption=encryption, part_bytes=PART, copy_part_bytes=PART)
    put(store, "empty", b"")
    put(store, "large", b"x" * (PART + 1))
    assert sent["PutObject"] == sent["CreateMultipartUpload"] == headers
    del sent["CreateMultipartUpload"]
    store.move("empty", "moved")
    store.move("large", "moved too")
    assert sent["CopyObject"] == sent["CreateMultipartUpload"] == headers


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/some/prefix/", "s3://bucket/some/prefix/k"),
        ("s3://bucket", "s3://bucket/k"),
        ("s3://bucket/odd#prefix?", "s3://bucket/odd#prefix?/k"),
        ("/srv/my%20objects", "file:///srv/my%2520objects/k"),
        ("file:///srv/my%20objects", "file:///srv/my%20objects/k"),
    ],
)
def test_a_storage_url_opens_the_store_it_names(url: str, shown: str) -> None:
    assert open_store(url, region="eu-central-1", access_key_id="a", secret_access_key="b").url("k") == shown


@pytest.mark.parametrize("url", ["s3://", "ftp://host/x", "s3:///prefix", "https://bucket.example.com"])
def test_any_other_storage_url_is_rejected_by_name(url: str) -> None:
    with pytest.raises(RequestRejected, match=f"EXPORT_STORAGE_URL.*{re.escape(url)}"):
        open_store(url)


def test_a_kms_key_without_kms_is_rejected() -> None:
    with pytest.raises(RequestRejected, match="S3_SSE"):
        open_store("s3://bucket", sse="AES256", sse_kms_key_id="key-1")


def test_a_sink_is_a_plain_binary_stream(store: ObjectStore) -> None:
    with store.writing("a") as sink:
        stream: BinaryIO = sink
        assert stream.writable()
        assert stream.write(b"abc") == 3
