"""The picture of the README: an export from request to download, as SVG laid out by hand.

Colours are classes, so that readers with a dark screen get dark paper. No dependency, no script, no font file.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

WIDTH, HEIGHT = 960, 528

_STYLE = """
  svg { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
  .paper { fill: #ffffff } .card { fill: #f6f8fa; stroke: #d0d7de }
  .step { fill: #ddf4ff; stroke: #54aeff } .proof { fill: #dafbe1; stroke: #4ac26b }
  .title { fill: #1f2328; font-size: 14px; font-weight: 600 }
  .text { fill: #424a53; font-size: 12px } .code { fill: #424a53; font-size: 11.5px;
    font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace }
  .line { stroke: #57606a; fill: none; stroke-width: 1.5 } .head { fill: #57606a }
  .check { stroke: #1a7f37; fill: none; stroke-width: 1.5; stroke-dasharray: 5 4 } .checkhead { fill: #1a7f37 }
  .good { fill: #1a7f37; font-size: 12px; font-weight: 600 }
  .a { fill: #54aeff } .b { fill: #d4a72c } .c { fill: #c297ff } .faint { opacity: .28 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .card { fill: #161b22; stroke: #3d444d }
    .step { fill: #0c2d4d; stroke: #1f6feb } .proof { fill: #0f2e1a; stroke: #2ea043 }
    .title { fill: #f0f6fc } .text, .code { fill: #b7bfc8 }
    .line { stroke: #9198a1 } .head { fill: #9198a1 }
    .check { stroke: #3fb950 } .checkhead { fill: #3fb950 } .good { fill: #3fb950 }
    .a { fill: #388bfd } .b { fill: #d29922 } .c { fill: #a371f7 }
  }
"""
_STEPS = (
    ("plan", "check request"),
    ("stage", "one snapshot"),
    ("convert", "write files"),
    ("validate", "against source"),
    ("package", "manifest, sums"),
    ("publish", "manifest last"),
)
_STEP_WIDTH, _STEP_GAP, _STEPS_LEFT, _STEPS_TOP = 102, 14, 238, 232
_TENANTS = ("a", "b", "c")


def svg() -> str:
    """The whole picture."""
    parts = [*_requests(), *_run(), *_database(), *_package(), *_lake(), *_arrows()]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="title">\n'
        '<title id="title">A request becomes a Dagster run, which reads one tenant\'s rows from one snapshot, converts '
        "them, compares the finished files with the database and publishes a package to download.</title>\n"
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 10 5 0 10z"/></marker>'
        '<marker id="check" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="checkhead" d="M0 0 10 5 0 10z"/></marker></defs>\n'
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="10"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, words: str, kind: str = "text", *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def _box(x: float, y: float, width: float, height: float, kind: str = "card") -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'


def _requests() -> Iterable[str]:
    """Who asks, and the table where asking happens."""
    for index, (asker, how) in enumerate(
        (("Host application", "INSERT by SQL"), ("Operator", "export-pipelines export"))
    ):
        top = 24 + index * 62
        yield _box(24, top, 190, 50)
        yield _text(38, top + 21, asker, "title")
        yield _text(38, top + 39, how, "code")
    yield _box(262, 24, 300, 112)
    yield _text(278, 47, "Request table", "title")
    yield _text(278, 66, "export_control.export_requests", "code")
    yield _text(278, 91, "queued → processing → completed")
    yield _text(278, 109, "every transition recorded and guarded;")
    yield _text(278, 125, "heartbeat, retries, cancel")
    yield _box(610, 24, 326, 112)
    yield _text(626, 47, "Dagster", "title")
    yield _text(626, 70, "sensor asks for a run until there is one")
    yield _text(626, 88, "queue: fair between tenants")
    yield _text(626, 106, "reconciler speaks for runs that were killed")
    yield _text(626, 124, "UI for operators: runs, assets, backfills")


def _run() -> Iterable[str]:
    yield _box(224, 178, 712, 132)
    yield _text(240, 202, "One run, one process, one tenant", "title")
    for index, (name, what) in enumerate(_STEPS):
        left = _step_left(index)
        yield _box(left, _STEPS_TOP, _STEP_WIDTH, 56, "proof" if name == "validate" else "step")
        yield _text(left + _STEP_WIDTH / 2, _STEPS_TOP + 24, name, "title", anchor="middle")
        yield _text(left + _STEP_WIDTH / 2, _STEPS_TOP + 43, what, "text", anchor="middle")


def _database() -> Iterable[str]:
    """The tenants' rows; all but one tenant's are out of reach."""
    yield _box(24, 178, 176, 326)
    yield _text(38, 202, "Your PostgreSQL", "title")
    yield _text(38, 221, "one database, all tenants")
    for row in range(12):
        tenant = _TENANTS[row % 3]
        kind = tenant if tenant == "a" else f"{tenant} faint"
        yield f'<rect class="{kind}" x="38" y="{238 + row * 14}" width="{(148, 118, 134)[row % 3]}" height="8" rx="3"/>'
    words = ("read as a role that", "row-level security binds;", "filtered in the SQL, too;", "every batch checked")
    for index, line in enumerate(words):
        yield _text(38, 432 + index * 18, line)


def _package() -> Iterable[str]:
    yield _box(660, 360, 276, 144)
    yield _text(676, 384, "Package, in a folder or S3", "title")
    files = ("data/invoices.csv.gz", "README.md", "datapackage.json", "SHA256SUMS", "manifest.json")
    for index, file in enumerate(files):
        yield _text(676, 405 + index * 17, file, "code")
    yield _text(828, 422, "download page")
    yield _text(828, 439, "mail with a link")
    yield _text(676, 493, "verify checks it offline", "good")


def _lake() -> Iterable[str]:
    yield _box(240, 392, 380, 112)
    yield _text(256, 421, "Lake: a Dagster asset for each table", "title")
    yield _text(256, 446, "tenant \u00d7 month or day, as Parquet with checks,")
    yield _text(256, 464, "from the same reader; by schedule, by hand or")
    yield _text(256, 482, "by backfill")


def _arrows() -> Iterable[str]:
    def arrow(path: str, kind: str = "line", tip: str = "tip") -> str:
        return f'<path class="{kind}" d="{path}" marker-end="url(#{tip})"/>'

    yield arrow("M214 49 H230 Q238 49 238 57 V64 Q238 72 246 72 H261")
    yield arrow("M214 111 H230 Q238 111 238 103 V96 Q238 88 246 88 H261")
    yield arrow("M562 80 H609")
    yield arrow("M773 136 V177")
    middle, bottom = _STEPS_TOP + 28, _STEPS_TOP + 57
    for index in range(len(_STEPS) - 1):
        left = _step_left(index) + _STEP_WIDTH
        yield arrow(f"M{left} {middle} H{left + _STEP_GAP - 1}")
    stage, validate, publish = (_step_left(index) + _STEP_WIDTH // 2 for index in (1, 3, 5))
    yield arrow(f"M200 338 H{stage - 8} Q{stage} 338 {stage} 330 V{bottom}")
    yield _text(212, 331, "one tenant's rows")
    yield arrow(f"M200 362 H{validate - 8} Q{validate} 362 {validate} 354 V{bottom}", "check", "check")
    yield _text(validate - 12, 350, "the database's own totals", "good", anchor="end")
    yield arrow("M200 448 H239")
    yield arrow(f"M{publish} {bottom - 1} V359")


def _step_left(index: int) -> int:
    return _STEPS_LEFT + index * (_STEP_WIDTH + _STEP_GAP)
