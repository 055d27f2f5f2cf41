"""How this service's own log lines look: JSON on standard error, so that standard output stays the commands'."""

from __future__ import annotations

import sys

import structlog


def configure_logs(*, as_json: bool) -> None:
    """Called by each entry point; a service's JSON takes the place of a command's text. Lines carry ids, never row data
    or secrets.
    """
    if structlog.is_configured() and not as_json:
        return
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
