"""How this service's log lines look: JSON on standard error, so that standard output stays the commands'."""

from __future__ import annotations

import logging
import sys

import structlog

_STAMPER = structlog.processors.TimeStamper(fmt="iso", utc=True)


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
            _STAMPER,
            structlog.processors.format_exc_info,  # without the values of variables
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def configure_server_logs() -> None:
    """What the libraries of a server log, as the same lines: nothing but JSON comes out of one."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level, _STAMPER],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)  # when it starts and stops
    logging.captureWarnings(True)
