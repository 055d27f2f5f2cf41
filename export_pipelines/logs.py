"""How this service's log lines look: JSON on standard error, so that standard output stays the commands'."""

from __future__ import annotations

import logging
import sys

import structlog

_STAMPER = structlog.processors.TimeStamper(fmt="iso", utc=True)


def configure_logs(*, as_json: bool) -> None:
    """Called by each entry point; the first one decides. A service tells what it does, in JSON; a command only what is
    wrong, in text. Lines carry ids, never row data or secrets.
    """
    if structlog.is_configured():
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
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if as_json else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def configure_server_logs() -> None:
    """For a command that becomes a server: nothing but JSON comes out of it, of its libraries as well."""
    structlog.reset_defaults()
    configure_logs(as_json=True)
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
