"""What a browser is told about every kind of answer: nothing from elsewhere runs in it, frames it or learns of it."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import urljoin

import pytest

from export_pipelines_tests.api.site import JOBS, Site

_INLINE = re.compile(r"<script(?![^>]*\ssrc=)|<[^>]+\s(?:on\w+|style)\s*=", re.IGNORECASE)


@pytest.fixture
def paths(site: Site) -> dict[str, str]:
    made = site.publish()
    return {
        "a listing": f"/d/{made.token}",
        "a file": f"/d/{made.token}/{made.marks[0]}.csv",
        "an unknown link": "/d/none",
        "the documentation": "/api/docs",
        "its script": "/api/docs/start.js",
        "an asset": "/api/docs/assets/swagger-ui.css",
        "the API": JOBS,
        "nothing": "/none",
        "health": "/healthz",
    }


def test_every_answer_tells_browsers_to_be_careful(site: Site, paths: dict[str, str]) -> None:
    for name, path in paths.items():
        headers = site.ask(None, "GET", path).headers
        assert headers["x-content-type-options"] == "nosniff", name
        assert headers["x-frame-options"] == "DENY", name
        assert headers["referrer-policy"] == "no-referrer", name
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; "), name
        assert "unsafe" not in policy, name
        assert {"base-uri 'none'", "frame-ancestors 'none'"} <= set(policy.split("; ")), name


def test_pages_hold_nothing_that_their_policy_stops(site: Site, paths: dict[str, str]) -> None:
    for path in paths.values():
        answer = site.ask(None, "GET", path)
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        assert not _INLINE.search(answer.text)
        for style in re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_the_documentation_finds_all_that_it_loads(site: Site) -> None:
    page = site.ask(None, "GET", "/api/docs").text
    found = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(found) == 4
    for address in found:
        answer = site.ask(None, "GET", urljoin("/api/docs", address))
        assert answer.status_code == 200, address
        if address.endswith(".js"):
            assert answer.headers["content-type"].startswith("text/javascript"), address
