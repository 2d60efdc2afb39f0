"""The log on stderr: a JSON object a line, or text for reading. What a request logs carries the request's id."""

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

# What every line of the request under way says of it: `request_id`, and `trace_id` where it is traced.
request: ContextVar[Mapping[str, str]] = ContextVar("request", default=MappingProxyType({}))

# Asked every few seconds; only their failures are news.
QUIET = frozenset({"/metrics", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
_SAID = {"method", "path", "status"}  # by the message of a request that is over
_access = logging.getLogger("service.access")
_json = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """One line of ASCII for each record, the stack of an exception included, so that nothing can fake another line."""

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
    """The same for people: what the message does not say behind it as name=value, and a stack below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        fields = (f"{name}={_json(value)}" for name, value in _fields(record).items() if name not in _SAID)
        return " ".join([_rfc3339(record.created), record.levelname, record.name, record.message, *fields])


def configure(level: str, layout: str) -> None:
    """Log to stderr from `level` on, as "json" or "text", warnings of Python included.

    Changes nothing where a program that embeds the service has set up logging itself.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if layout == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    # What is wrong with a picture is for its sender. Python remembers each text it has shown, and these quote the file.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def access(method: str, path: str, status: int, facts: Mapping[str, Any]) -> None:
    """The line of a request that is over. `path` is a route's template, never what the client wrote."""
    if status < 400 and path in QUIET:
        return
    level = logging.ERROR if status >= 500 else logging.INFO
    if not _access.isEnabledFor(level):
        return
    # Not by `log()`, which walks the stack for the caller's line: that takes as long as all the rest.
    record = logging.LogRecord(_access.name, level, __file__, 0, f"{method} {path} {status}", (), None)
    record.fields = {"method": method, "path": path, "status": status, **facts}
    _access.handle(record)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {**request.get(), **getattr(record, "fields", {})}


def _rfc3339(seconds: float) -> str:
    """Seconds since 1970 in UTC, to milliseconds."""
    return f"{_to_the_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=1)  # under load, many lines fall into one second
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
