"""The pages people see: the files behind a download link, and what to do when there is none.

Everything is in the page itself: no script, no image and no font, so nothing is fetched and the token stays here.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from export_pipelines.core.naming import CHECKSUMS, MANIFEST
from export_pipelines.core.wording import counted, readable_size
from export_pipelines.stores.links import LinkedExport

_DOCUMENTS = {  # every other file of a package is data or a schema
    "README.md": "start here",
    "datapackage.json": "columns and types",
    CHECKSUMS: "checksums",
    MANIFEST: "full record",
}
_SCHEMAS = "schema/"

STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #60646c; --line: #e0e3e8; --page: #f6f7f9; --card: #fff;
  --link: #0b57d0; --good: #18794e }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --soft: #a5a8b0; --line: #363a3f; --page: #111113;
  --card: #1b1c1f; --link: #8ab4f8; --good: #5bd197 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 2.5rem 1rem 3rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; text-wrap: balance }
h2 { font-size: .95rem; margin: 2rem 0 .5rem; color: var(--soft); font-weight: 600 }
p { margin: .35rem 0 }
.soft { color: var(--soft) }
.good { color: var(--good); font-weight: 600 }
ul { list-style: none; margin: 0; padding: 0; background: var(--card); border: 1px solid var(--line);
  border-radius: .75rem; overflow: hidden }
li { display: flex; flex-wrap: wrap; gap: 0 1rem; align-items: baseline; padding: .75rem 1rem }
li + li { border-top: 1px solid var(--line) }
li a { flex: 1 1 16rem; font-weight: 600 }
li span { color: var(--soft); font-size: .9rem; font-variant-numeric: tabular-nums }
a { color: var(--link); text-decoration: none; overflow-wrap: anywhere }
a:hover, a:focus-visible { text-decoration: underline }
form { display: grid; gap: .5rem; max-width: 22rem; margin-top: 1.5rem }
input, button { font: inherit; padding: .5rem .75rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card); color: var(--text) }
button, .all { background: var(--link); color: var(--page); border-color: var(--link); font-weight: 600;
  cursor: pointer }
.all { display: inline-block; margin: 1rem .5rem 0 0; padding: .5rem .75rem; border-radius: .5rem }
.bad { color: #d13438; font-weight: 600 }
details { margin-top: 2rem; color: var(--soft); font-size: .9rem }
summary { cursor: pointer }
pre { font: .85em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; color: var(--text);
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; overflow-x: auto }
"""


def _source_of(text: str) -> str:
    """How a Content-Security-Policy names the text of an element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


PAGE_HEADERS = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": f"default-src 'none'; style-src '{_source_of(STYLE)}'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
}


def listing_page(
    token: str, export: LinkedExport, files: Sequence[Mapping[str, Any]], *, whole: str | None = None
) -> str:
    """Name, size and end of the package, then its data files, then what describes them. ``whole`` is the path of the
    package as one ZIP.
    """
    title = export.name or "Your data export"
    data = [file for file in files if not _is_document(file["path"])]
    documents = sorted(
        (file for file in files if _is_document(file["path"])), key=lambda file: file["path"] not in _DOCUMENTS
    )
    return _document(
        title,
        f"""<h1>{escape(title)}</h1>
<p class="soft">{counted(export.rows, "row")} · {counted(len(data), "file")} · {readable_size(export.size_bytes)}
· made {_date(export.completed_at)}</p>
<p><span class="good">✓ Complete.</span> Every data file was read back and compared with the database.</p>
<p class="soft">You can download until <strong>{_time(export.available_until)}</strong>.
Anyone who has this address can too, so keep it to yourself.</p>
{_download_all(token, whole, files)}<h2>Data</h2>{_items(token, data)}
<h2>About the data</h2>{_items(token, documents)}
<details><summary>Check the files after downloading</summary>
<p>Unpack the ZIP, or put the files into one folder as they are named here; then run there:</p>
<pre>sha256sum -c {CHECKSUMS}</pre></details>""",
    )


def password_page(*, wrong: bool) -> str:
    """Asks for the link's password."""
    title = "This link has a password"
    message = '<p class="bad" role="alert">That was not the password.</p>' if wrong else ""
    return _document(
        title,
        f"""<h1>{title}</h1>
<p class="soft">Whoever sent you the link knows it.</p>{message}
<form method="post"><label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus>
<button>Open</button></form>""",
    )


def problem_page(title: str, advice: str) -> str:
    """One sentence about what is wrong, one about what to do."""
    return _document(title, f'<h1>{escape(title)}</h1><p class="soft">{escape(advice)}</p>')


def _download_all(token: str, whole: str | None, files: Sequence[Mapping[str, Any]]) -> str:
    if whole is None:
        return ""
    size = readable_size(sum(file["size_bytes"] for file in files))
    button = f'<a class="all" href="{_address(token, whole)}">Download all as one ZIP</a>'
    return f'<p>{button} <span class="soft">{size}</span></p>\n'


def _address(token: str, path: str) -> str:
    return f"/d/{quote(token, safe='')}/{quote(path)}"


def _items(token: str, files: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<li><a href="{_address(token, file["path"])}">{escape(file["path"])}</a><span>{_remark(file)}</span></li>'
        for file in files
    )
    return f"<ul>{rows}</ul>" if rows else '<p class="soft">No files.</p>'


def _remark(file: Mapping[str, Any]) -> str:
    if _is_document(file["path"]):
        return f"{_DOCUMENTS.get(file['path'], 'schema')} · {readable_size(file['size_bytes'])}"
    return f"{counted(file['rows'], 'row')} · {readable_size(file['size_bytes'])}"


def _is_document(path: str) -> bool:
    return path in _DOCUMENTS or path.startswith(_SCHEMAS)


def _date(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%-d %B %Y}"


def _time(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%-d %B %Y, %H:%M} UTC"


def _document(title: str, body: str) -> str:
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>
<style>{STYLE}</style></head><body><main>
{body}
</main></body></html>"""
