"""python -m service: serve with the settings of the environment."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from pydantic import ValidationError

from service import connection, descriptors, logs, runtimes
from service.app import create_app
from service.bundle import BundleError
from service.context import Service
from service.credentials import CredentialsError
from service.keys import KeysError
from service.runtime import RuntimeUnavailableError
from service.settings import PREFIX, Settings
from service.tracing import TracingUnavailableError

_NOT_STARTED = 3  # as uvicorn has it
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
log = logging.getLogger("service")


def main() -> int:
    """Serve until SIGTERM or SIGINT. A mistake in settings, bundles or installation is one line and status 2."""
    # Before anything else, for the first process of a container is not stopped by a signal that it does not handle.
    # uvicorn drains on SIGTERM and then raises it again for whoever handled it before: a drain is a clean exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    descriptors.raise_limit()  # before the settings, which depend on it
    try:
        settings = Settings()
    except ValidationError as exc:
        for error in exc.errors():
            name = PREFIX + str(error["loc"][0]).upper()
            print(f"error: {name}={error['input']!r}: {error['msg']}", file=sys.stderr)
        return 2
    logs.configure(settings.log_level, settings.log_format)
    try:
        runtimes.require(settings)
        app = create_app(settings)
        app.state.service.models.load_all()  # before the server starts, so that a refusal is one line
    except (BundleError, CredentialsError, KeysError, RuntimeUnavailableError, TracingUnavailableError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    if app.state.service.access.is_open and settings.host not in _LOOPBACK:
        log.warning("listening on %s without FACET_KEYS_FILE: whoever reaches this port may use it", settings.host)
    # What has been loaded stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    rejected = app.state.service.metrics.rejected
    options = {
        "http": connection.guarded(
            settings.client_timeout,
            settings.max_connections,
            lambda reason: rejected.labels(reason).inc(),
            app.state.door,
        ),
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": settings.keep_alive,
        "timeout_graceful_shutdown": int(settings.request_timeout) + 1,
    }
    if app.state.administration is None:
        uvicorn.run(app, host=settings.host, port=settings.port, **options)
        return 0
    first = First(uvicorn.Config(app, settings.host, settings.port, **options), app.state.service)
    beside = Beside(uvicorn.Config(app.state.administration, settings.admin_host, settings.admin_port, **options))
    with asyncio.Runner(loop_factory=first.config.get_loop_factory()) as runner:
        runner.run(serve(first, beside, beside.config.bind_socket()))
    return 0 if first.started else _NOT_STARTED


class First(uvicorn.Server):
    """The server of the main port: when it drains, the service is not ready any more, which the other port tells."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.draining = True
        await super().shutdown(sockets)


class Beside(uvicorn.Server):
    """A second server in one process: the lifespan and the signals are the first one's."""

    def __init__(self, config: uvicorn.Config) -> None:
        config.lifespan = "off"
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(first: uvicorn.Server, beside: Beside, listener: socket.socket) -> None:
    """Both, the second on `listener`, until the first has ended: whoever watches the metrics sees it drain."""
    other = asyncio.create_task(beside.serve(sockets=[listener]))
    try:
        await first.serve()
    finally:
        beside.should_exit = True
        await other


if __name__ == "__main__":
    sys.exit(main())
