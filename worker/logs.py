"""structlog for every process: events in the past tense, data as keys, one JSON object a line.

Standard-library loggers (Celery, kombu, uvicorn) pass through the same renderer. Never logged: audio,
transcript text, client file names, URLs with a query, secrets.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from worker.settings import Settings

# Below a warning these quote whole URLs, headers or bodies.
_INDISCREET = ("httpx", "httpcore", "botocore", "urllib3")


def configure_logging(settings: Settings, process: str) -> None:
    """Send all logging of this process to stderr. ``process`` names it in every line."""
    level = getattr(logging, settings.log_level.upper())
    shared = _shared_processors()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _adder("process", process),
                *_renderers(settings),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _INDISCREET:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _shared_processors() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _renderers(settings: Settings) -> list[structlog.typing.Processor]:
    if settings.log_format == "console":
        # The plain traceback: the pretty one prints local variables, and with them what was said.
        return [
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _adder(key: str, value: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event[key] = value
        return event

    return add
