"""Calls that no client in its right mind makes: each is refused, naming the field, and nothing breaks."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from export_pipelines.api.request_middleware import MAX_BODY_BYTES
from export_pipelines_tests.api.rules import PUBLIC, RULES
from export_pipelines_tests.api.site import JOBS, PETS, Site, problem
from export_pipelines_tests.lanes import every_pair

JSON = {"Content-Type": "application/json"}
ESTIMATE = "/api/v1/exports/estimate"
NOBODYS = "0190b6c4-0000-7000-8000-000000000001"
NASTY = {
    "quote": "'; DROP TABLE export_control.export_requests; --",
    "union": "' union select token_sha256 from export_control.api_keys --",
    "identifier": '"pets"; select pg_sleep(5)',
    "format": "%s %(id)s {0} {job_id} ${jndi:ldap://127.0.0.1:9/x}",
    "path": "../../../../etc/passwd",
    "encoded path": "..%2f..%2fetc%2fpasswd",
    "nul": "pets\x00",
    "lines": "pets\r\nX-Injected: yes",
    "script": "<script>alert(1)</script>",
    "turned around": "\u202epets",
    "beyond 16 bits": "\U0001f4a3" * 50,
    "long": "p" * 5000,
    "empty": "",
    "blank": " \t ",
}
TRACES = ("Traceback", "psycopg", "site-packages", 'File "/', "export_pipelines/", "SELECT ", "pydantic")


@pytest.fixture(scope="module")
def ann(site: Site) -> Iterator[httpx.Client]:
    with site.client("ann") as client:
        yield client


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The problem, which tells nothing of the inside."""
    assert answer.status_code in (statuses or (400, 404, 409, 413, 415, 422)), (answer.status_code, answer.text)
    assert not [trace for trace in TRACES if trace in answer.text], answer.text
    assert "x-injected" not in answer.headers
    return problem(answer, answer.status_code)


# Bodies that are no JSON, or no object --------------------------------------------------------------------------------

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n",
    "a word": b"hello",
    "half": b'{"tables": ["pets"],',
    "two": b'{"tables": ["pets"], "format": "csv"} {}',
    "no text": b"\xff\xfe\xfd",
    "a mark at the beginning": b'\xef\xbb\xbf{"tables": ["pets"]}x',
    "null": b"null",
    "a list": b'[{"tables": ["pets"], "format": "csv"}]',
    "a number": b"1e400",
    "a text": b'"csv"',
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 30_000 + b"1" + b"}" * 30_000,
    "an endless number": b'{"tables": ["pets"], "format": "csv", "split_files": {"max_size_mb": '
    + b"9" * 20_000
    + b"}}",
    "a form": b"tables=pets&format=csv",
    "xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
}


@pytest.mark.parametrize("path", [JOBS, ESTIMATE])
@pytest.mark.parametrize("body", sorted(BODIES))
def test_a_body_that_is_no_configuration_is_refused(site: Site, ann: httpx.Client, path: str, body: str) -> None:
    before = site.state()
    refused(ann.post(path, content=BODIES[body], headers=JSON), 400, 422)
    assert site.state() == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "x"])
def test_a_body_of_another_kind_is_refused(ann: httpx.Client, kind: str) -> None:
    refused(ann.post(JOBS, content=json.dumps(PETS).encode(), headers={"Content-Type": kind}), 415, 422)


# Values ---------------------------------------------------------------------------------------------------------------

VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "tables is a text": ({"tables": "pets"}, "tables"),
    "tables is an object": ({"tables": {"pets": 1}}, "tables"),
    "tables holds a number": ({"tables": [1]}, "tables.0"),
    "tables holds null": ({"tables": [None]}, "tables.0"),
    "tables is empty": ({"tables": []}, "tables"),
    "many tables": ({"tables": ["pets"] * 5000}, "tables"),
    "a table twice": ({"tables": ["pets", "pets"]}, "tables"),
    "format is a number": ({"format": 7}, "format"),
    "format is null": ({"format": None}, "format"),
    "format is unknown": ({"format": "exe"}, "format"),
    "options is a list": ({"options": []}, "options"),
    "an unknown option": ({"options": {"shell": "rm -rf /"}}, "options"),
    "an unknown field": ({"is_admin": True}, "is_admin"),
    "the prototype": ({"__proto__": {"role": "admin"}}, "__proto__"),
    "NaN": (
        {"split_files": {"enabled": True, "split_by": "size", "max_size_mb": float("nan")}},
        "split_files.max_size_mb",
    ),
    "infinity": (
        {"split_files": {"enabled": True, "split_by": "size", "max_size_mb": float("inf")}},
        "split_files.max_size_mb",
    ),
    "minus": ({"split_files": {"enabled": True, "split_by": "size", "max_size_mb": -1}}, "split_files.max_size_mb"),
    "a huge number": (
        {"split_files": {"enabled": True, "split_by": "size", "max_size_mb": 10**300}},
        "split_files.max_size_mb",
    ),
    "a date before time": ({"filters": {"date_range": {"start": "-4712-01-01"}}}, "filters.date_range.start"),
    "a date after time": ({"filters": {"date_range": {"end": "99999-01-01"}}}, "filters.date_range.end"),
    "a date of 30 February": ({"filters": {"date_range": {"start": "2024-02-30"}}}, "filters.date_range.start"),
    "a range turned around": (
        {"filters": {"date_range": {"start": "2025-01-01", "end": "2024-01-01"}}},
        "filters.date_range",
    ),
    "a date as object": ({"filters": {"date_range": {"start": {"$gt": ""}}}}, "filters.date_range.start"),
    "a password that is short": (
        {"encryption": {"enabled": True, "method": "AES256", "password": "x"}},
        "encryption.password",
    ),
    "a password that is sealed": (
        {"encryption": {"enabled": True, "method": "AES256", "password": {"sealed": True}}},
        "encryption.password",
    ),
    "no age key": (
        {"encryption": {"enabled": True, "method": "age", "recipients": ["age1x"]}},
        "encryption.recipients",
    ),
    "an address with lines": (
        {"delivery": [{"method": "email", "recipients": ["a@b.c\r\nBcc: all@example.com"]}]},
        "delivery.0.recipients",
    ),
    "a subject with lines": (
        {"delivery": [{"method": "email", "recipients": ["a@b.cd"], "subject": "x\r\nBcc: a@b.cd"}]},
        "delivery.0.subject",
    ),
    "an unknown delivery": ({"delivery": [{"method": "ftp://"}]}, "delivery.0"),
    "a name with lines": ({"name": "a\nb"}, "name"),
    "a long name": ({"name": "n" * 201}, "name"),
    "convert beside tables": ({"convert": "0190b6c4-0000-7000-8000-000000000001"}, "body"),
}


@pytest.mark.parametrize("path", [JOBS, ESTIMATE])
@pytest.mark.parametrize("what", sorted(VALUES))
def test_a_wrong_value_is_named(ann: httpx.Client, path: str, what: str) -> None:
    change, field = VALUES[what]
    reported = refused(ann.post(path, content=json.dumps({**PETS, **change}), headers=JSON), 422)
    assert str(reported["field"]).startswith(field), reported
    assert reported["detail"].startswith(reported["field"]), reported


def test_of_two_fields_of_one_name_what_is_checked_is_what_is_kept(site: Site, ann: httpx.Client) -> None:
    answer = ann.post(JOBS, content=b'{"tables": ["nothing"], "format": "csv", "tables": ["pets"]}', headers=JSON)
    assert answer.status_code == 202
    assert site.publisher.requests.get(answer.json()["job_id"]).config["tables"] == ["pets"]


SURROGATE = r"\ud800"


@pytest.mark.parametrize(
    "body",
    [
        r'{"tables": ["pets"], "format": "%s"}',
        r'{"tables": ["%s"], "format": "csv"}',
        r'{"tables": ["pets"], "format": "csv", "name": "%s"}',
        r'{"tables": ["pets"], "format": "csv", "%s": 1}',
        r'{"tables": ["pets"], "format": "csv", "options": {"%s": 1}}',
        r'{"tables": ["pets"], "format": "csv", "options": {"csv_profile": "%s"}}',
        r'{"tables": ["pets"], "format": "csv", "compression": "%s"}',
        r'{"tables": ["pets"], "format": "csv", "filters": {"date_range": {"start": "%s"}}}',
        r'{"data_sources": [{"type": "pets", "fields": ["%s"]}], "format": "csv"}',
        r'{"tables": ["pets"], "format": "csv", "delivery": [{"method": "email", "recipients": ["%s@b.cd"]}]}',
        r'{"format": "csv", "tables": ["pets"], "delivery": [{"body": "%s", "method": "email", "recipients": ["a@b.c"]}]}',  # noqa: E501
        r'{"tables": ["pets"], "format": "csv", "encryption": {"method": "AES256", "password": "%s long enough"}}',
        r'{"convert": "%s", "format": "csv"}',
    ],
)
@pytest.mark.parametrize("text", [SURROGATE, r"\u0000"], ids=["half a character", "nul"])
@pytest.mark.parametrize("path", [JOBS, ESTIMATE])
def test_a_text_that_no_database_holds_is_refused_everywhere(
    ann: httpx.Client, path: str, body: str, text: str
) -> None:
    reported = refused(ann.post(path, content=(body % text).encode(), headers=JSON), 400, 422)
    assert reported.get("field"), reported


@pytest.mark.parametrize("nasty", sorted(NASTY))
@pytest.mark.parametrize("field", ["tables", "format", "compression", "column", "option", "start", "convert"])
def test_fragments_of_sql_and_paths_are_wrong_names_and_nothing_else(
    site: Site, ann: httpx.Client, field: str, nasty: str
) -> None:
    text = NASTY[nasty]
    if field == "start" and not text:
        pytest.skip("an empty date is none")
    body: dict[str, Any] = {
        "tables": {**PETS, "tables": [text]},
        "format": {**PETS, "format": text},
        "compression": {**PETS, "compression": text},
        "column": {"data_sources": [{"type": "pets", "fields": [text]}], "format": "csv"},
        "option": {**PETS, "options": {text: 1}},
        "start": {**PETS, "filters": {"date_range": {"start": text}}},
        "convert": {"convert": text, "format": "csv"},
    }[field]
    assert refused(ann.post(JOBS, json=body), 422).get("field")


@pytest.mark.parametrize("nasty", sorted(set(NASTY) - {"lines", "nul", "long", "blank"}))
def test_a_name_may_be_anything_that_is_a_line(site: Site, ann: httpx.Client, nasty: str) -> None:
    answer = ann.post(JOBS, json={**PETS, "name": NASTY[nasty]})
    assert answer.status_code == 202, answer.text
    assert ann.get(f"{JOBS}/{answer.json()['job_id']}").json()["name"] == NASTY[nasty]


# Sizes ----------------------------------------------------------------------------------------------------------------


def test_a_configuration_beyond_its_limit_is_refused(ann: httpx.Client) -> None:
    reported = refused(ann.post(JOBS, json={**PETS, "options": {"x": "y" * 70_000}}), 422)
    assert "65536" in reported["detail"]


@pytest.mark.parametrize("path", [JOBS, ESTIMATE, "/d/" + "x" * 43])
def test_a_body_beyond_the_limit_is_refused_whether_its_size_is_told_or_not(ann: httpx.Client, path: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1024 + 64):
            yield b" " * 1024

    reported = ann.post(path, content=b" " * (MAX_BODY_BYTES + 1), headers=JSON)
    streamed = ann.post(path, content=pieces(), headers=JSON)
    assert [reported.status_code, streamed.status_code] == [413, 413]


# Paths, queries, headers ----------------------------------------------------------------------------------------------


PATHS = sorted({path for _method, path in RULES if "{" in path})


@pytest.mark.parametrize(("path", "nasty"), every_pair(PATHS, sorted(NASTY), base=PATHS[0]))
def test_a_path_that_holds_no_id_is_refused(ann: httpx.Client, path: str, nasty: str) -> None:
    text = quote(NASTY[nasty], safe="")
    for method in sorted(method for method, known in RULES if known == path and method != "HEAD"):
        answer = ann.request(method, re.sub(r"\{\w+\}", lambda _name: text, path))
        refused(answer, 404, 405, 414, 422)


WRONG_QUERIES = {
    "limit": ("-1", "0", "201", "1e3", "99999999999999999999", "NaN", "1.5", "0x10", "٣"),
    "cursor": ("AAAA", "bnVsbA", "W10", "W251bGwsbnVsbF0", "WzEsMl0", "eyJhIjoxfQ", "ü", "=" * 200),
    "created_from": ("2024-01-01T00:00:00", "yesterday", "infinity", "10000-01-01T00:00:00Z"),
    "created_to": ("now", "-infinity", "1700000000", "1e9", "1.4e-45"),
    "status": ("done", "COMPLETED"),
    "table": ("pets\x00",),
    "format": ("csv\x00",),
    "user": ("\x00",),
}
QUERIES = [(name, text) for name, texts in WRONG_QUERIES.items() for text in texts] + [
    (name, text)
    for name in ("limit", "cursor", "status", "created_from", "created_to")
    for text in NASTY.values()
    if text.strip()
]


@pytest.mark.parametrize(("name", "text"), QUERIES)
def test_a_wrong_parameter_is_named(ann: httpx.Client, name: str, text: str) -> None:
    reported = refused(ann.get(JOBS, params={name: text}), 422)
    assert reported["field"] == name, reported


@pytest.mark.parametrize("nasty", sorted(set(NASTY) - {"nul", "long"}))
@pytest.mark.parametrize("name", ["table", "format", "user"])
def test_a_filter_that_fits_nothing_finds_nothing(ann: httpx.Client, name: str, nasty: str) -> None:
    answer = ann.get(JOBS, params={name: NASTY[nasty]})
    if answer.status_code == 422:  # longer than such a name can be
        assert refused(answer)["field"] == name
    elif NASTY[nasty]:
        assert answer.json()["jobs"] == []


@pytest.mark.parametrize("name", ["tenant", "user", "action", "target", "from", "to", "cursor", "limit", "format"])
@pytest.mark.parametrize("nasty", sorted(NASTY))
def test_the_audit_log_takes_no_nonsense_either(site: Site, name: str, nasty: str) -> None:
    answer = site.ask("chief", "GET", "/api/v1/audit", params={name: NASTY[nasty]})
    if answer.status_code != 200:
        assert refused(answer, 422)["field"] == name


@pytest.mark.parametrize(("method", "path"), sorted(RULES | dict.fromkeys(PUBLIC)))
def test_an_unknown_parameter_is_refused_by_every_route_but_health_checks(site: Site, method: str, path: str) -> None:
    filled = re.sub(r"\{(\w+)\}", lambda name: "0" if name[1] == "index" else NOBODYS, path)
    with site.client("oscar" if path == "/metrics" else "chief") as client:
        answer = client.request(method, filled, params={"xyzzy": "1"})
        if path in ("/healthz", "/readyz"):  # load balancers add some of their own
            assert answer.status_code == 200, answer.text
            return
        assert answer.status_code == 422, answer.text
        if method != "HEAD":
            reported = refused(answer, 422)
            assert (reported["field"], "not a known query parameter" in reported["detail"]) == ("xyzzy", True)


def test_the_document_and_the_tests_know_the_same_routes(site: Site, ann: httpx.Client) -> None:
    document = ann.get("/api/openapi.json").json()
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert routes == {route for route in {*RULES, *PUBLIC} if route[0] != "HEAD"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("createdFrom", "did you mean 'created_from'?"),
        ("pageSize", "is called `limit` here"),
        ("page", "is called `cursor` here"),
        ("stauts", "did you mean 'status'?"),
        ("format ", "did you mean 'format'?"),
    ],
)
def test_an_unknown_parameter_is_told_what_it_is_called_here(ann: httpx.Client, name: str, said: str) -> None:
    assert refused(ann.get(JOBS, params={name: "x"}), 422)["detail"].endswith(said)


def test_without_a_credential_nobody_is_told_of_parameters(site: Site) -> None:
    assert httpx.get(f"{site.address}{JOBS}", params={"xyzzy": "1"}).status_code == 401


PYTHON = re.compile(  # names of classes, pydantic's names of types, Python's own
    r"\b[A-Z][a-z]+[A-Z][A-Za-z]+\b|constrained-|function-|\b(tuple|list|dict)\[|NoneType|\b(str|int)\b|"
    r"Input should|\bTuple\b"
)
ODD: tuple[Any, ...] = (7, [None], {"x": 1}, [{"x": 1}])
BODIES_IN_ORDER = {route: rule.body for route, rule in RULES.items() if rule.body is not None}


def malformed(document: dict[str, Any], schema: dict[str, Any], sound: Any) -> Iterator[Any]:
    """The sound body with each of its documented fields, two levels deep, as something else."""
    yield from ODD
    for name, part in fields_of(document, schema).items():
        for odd in ODD:
            yield {**sound, name: odd}
        for inner in fields_of(document, part):
            kept = sound.get(name) if isinstance(sound.get(name), dict) else {}
            listed = "items" in json.dumps(part)
            for odd in ODD[:3:2]:
                changed = {**kept, inner: odd}
                yield {**sound, name: [changed] if listed and not kept else changed}


def fields_of(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found = dict(schema.get("properties", {}))
    for part in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        found |= fields_of(document, part)
    return found


@pytest.mark.parametrize(("method", "path"), sorted(BODIES_IN_ORDER))
def test_no_message_shows_a_type_of_python(site: Site, method: str, path: str) -> None:
    with site.client("chief") as client:
        document = client.get("/api/openapi.json").json()
        schema = document["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
        sound = BODIES_IN_ORDER[method, path](None)  # type: ignore[misc, arg-type]
        filled = re.sub(r"\{(\w+)\}", NOBODYS, path)
        shown = set()
        for body in malformed(document, schema, sound):
            answer = client.request(method, filled, json=body)
            assert answer.status_code < 500, (body, answer.text)
            if answer.status_code == 422:
                reported = refused(answer, 422)
                told = [reported["detail"], *(f"{one['field']} {one['message']}" for one in reported.get("errors", ()))]
                shown |= {text for text in told if PYTHON.search(text)}
        assert not shown, shown


HEADERS: dict[str, tuple[dict[str, str], int]] = {
    "no host of ours": ({"Host": "evil.example"}, 200),
    "an odd forwarded address": ({"X-Forwarded-For": "not an address, 1.2.3.4, ::1, '; --"}, 200),
    "a long request id": ({"X-Request-ID": "x" * 5000}, 200),
    "a request id with quotes": ({"X-Request-ID": '"},{"level":"'}, 200),
    "an odd agent": ({"User-Agent": "=cmd|' /C calc'!A0 \xff\x80"}, 200),
    "an odd language": ({"Accept": "*/*;q=NaN,,,,"}, 200),
    "a range of a list": ({"Range": "bytes=0-10"}, 200),
    "an expectation": ({"If-None-Match": "*", "If-Match": '"x"'}, 200),
    "another method behind it": ({"X-HTTP-Method-Override": "DELETE"}, 200),
}


@pytest.mark.parametrize("what", sorted(HEADERS))
def test_headers_that_mean_nothing_here_change_nothing(site: Site, ann: httpx.Client, what: str) -> None:
    headers, status = HEADERS[what]
    answer = ann.get(
        JOBS, params={"limit": 1}, headers={name: text.encode("latin-1") for name, text in headers.items()}
    )
    assert answer.status_code == status
    assert "evil.example" not in f"{answer.text}{answer.headers}"
    assert len(answer.headers["x-request-id"]) <= 100


@pytest.mark.parametrize(
    "key",
    ["", "x" * 201, "two words", "über", "tab\there"],
    ids=["empty", "long", "space", "letters", "tab"],
)
def test_an_idempotency_key_is_a_word(site: Site, key: str) -> None:
    with site.client("ann") as client:
        answer = client.post(JOBS, json=PETS, headers={"Idempotency-Key": key.encode("latin-1")})
    assert refused(answer, 400, 422)["status"] in (400, 422)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "PROPFIND"])
def test_an_unknown_method_is_told_which_there_are(ann: httpx.Client, method: str) -> None:
    answer = ann.request(method, JOBS)
    assert refused(answer, 405)["type"].endswith("method-not-allowed")
    assert set(answer.headers["allow"].replace(" ", "").split(",")) <= {"GET", "POST", "HEAD"}


@pytest.mark.parametrize(
    "path", [f"{JOBS}/", "/api", "/api/v1/exports", f"{JOBS}//", "/api/docs/assets/../../../../etc/passwd",
             "/api/docs/assets/%2e%2e/%2e%2e/etc/passwd", "//evil.example/", "/%00"],
)  # fmt: skip
def test_an_unknown_address_is_not_found_and_sends_nobody_elsewhere(ann: httpx.Client, path: str) -> None:
    answer = ann.send(ann.build_request("GET", f"{ann.base_url}".rstrip("/") + path, headers={"Host": "evil.example"}))
    refused(answer, 404, 422)
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "request_text",
    [
        "POST {jobs} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST {jobs} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\n12345",
        "POST {jobs} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST {jobs} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "GET {jobs} HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer x\r\n\r\n",
        "GET {jobs} HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        "BREW {jobs} HTTP/1.1\r\nHost: x\r\n\r\n",
        "get {jobs} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET {jobs} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: \x7f\r\n\r\n",
        "GET {jobs} HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET " + "/x" * 40_000 + " HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=[
        "minus",
        "two lengths",
        "both",
        "no chunk",
        "space",
        "nul",
        "brew",
        "small",
        "delete",
        "version",
        "long",
        "TLS",
    ],
)
def test_what_is_no_http_is_turned_away_and_the_server_lives(site: Site, ann: httpx.Client, request_text: str) -> None:
    parts = urlsplit(site.address)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=5) as connection:
        connection.sendall(request_text.format(jobs=JOBS).encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        said = connection.recv(200)
    assert said == b"" or said.split(b" ")[1] in (b"400", b"401", b"404", b"414", b"431")
    assert ann.get("/healthz").status_code == 200
