"""The log on stderr: one JSON object per line, or text. Every record of a request carries the request's id."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from types import MappingProxyType
from typing import Any

# Fields of every record of the current request: `request_id`, and `trace_id` if it is traced.
request: ContextVar[Mapping[str, str]] = ContextVar("request", default=MappingProxyType({}))

# Probes and scrapes come every few seconds, so only their failures are logged.
QUIET = frozenset({"/metrics", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
_IN_MESSAGE = {"method", "path", "status"}  # of the record of a finished request
_access = logging.getLogger("service.access")
_json = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """One line of ASCII per record, including the stack of an exception, so that no value can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = type(record.exc_info[1]).__qualname__
            line["stack"] = self.formatException(record.exc_info)
        return _json(line)


class TextFormatter(logging.Formatter):
    """A line of text per record: the message, the other fields as name=value, and below it the stack."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        fields = (f"{name}={_json(value)}" for name, value in _fields(record).items() if name not in _IN_MESSAGE)
        return " ".join([_rfc3339(record.created), record.levelname, record.name, record.message, *fields])


def configure(level: str, layout: str) -> None:
    """Log to stderr from `level` on, as "json" or "text", including Python's warnings.

    Has no effect in a program that embeds the service and has configured logging.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if layout == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    # Pillow's warnings about pictures quote them, and Python keeps the text of each warning that it has logged.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def logs_access(path: str, status: int) -> bool:
    """Whether `access` logs such a request; collecting the facts takes longer than to ask."""
    return _access.isEnabledFor(_level(status)) and not (status < 400 and path in QUIET)


def access(method: str, path: str, status: int, facts: Mapping[str, Any]) -> None:
    """Log a finished request, if `logs_access`. `path` is the template of its route, never what the client sent."""
    level = _level(status)
    # Not by `log()`, which walks the stack to find the caller; that would double the time.
    record = logging.LogRecord(_access.name, level, __file__, 0, f"{method} {path} {status}", (), None)
    record.fields = {"method": method, "path": path, "status": status, **facts}
    _access.handle(record)


def _level(status: int) -> int:
    return logging.ERROR if status >= 500 else logging.INFO


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {**request.get(), **getattr(record, "fields", {})}


def _rfc3339(seconds: float) -> str:
    """Seconds since 1970 in UTC, to milliseconds."""
    return f"{_to_the_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=1)  # under load, many records fall into one second
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
