"""python -m service: serve with the settings of the environment."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from service import system
from service.api.service import Service
from service.app import create_app
from service.auth.keys import KeysError
from service.bundle.manifest import BundleError
from service.errors import RuntimeUnavailableError, rule_of
from service.inference import backends
from service.provenance.c2pa import CredentialsError
from service.server import connection, unix_socket
from service.settings import PREFIX, Settings
from service.telemetry import logs
from service.telemetry.tracing import TracingUnavailableError

_NOT_STARTED = 3  # as uvicorn has it
# New objects after which the garbage collector runs. The requests of a full queue have 130,000, and to traverse those
# stops everything for 100 ms. Requests and connections leave no cycles when they end (a test checks it).
_NEW_OBJECTS = 200_000
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
log = logging.getLogger("service")


def main() -> int:
    """Serve until SIGTERM or SIGINT. A mistake in settings, bundles or installation is one line and status 2."""
    # First, since the first process of a container is not stopped by a signal that it does not handle. uvicorn drains
    # on SIGTERM and then raises it again for the handler before its own: a drain is a clean exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    system.release_large_blocks()
    system.raise_descriptor_limit()  # before the settings, which depend on it
    try:
        settings = Settings()
    except ValidationError as exc:
        for error in exc.errors():
            name = PREFIX + str(error["loc"][0]).upper()
            print(f"error: {name}={error['input']!r}: {rule_of(error)}", file=sys.stderr)
        return 2
    logs.configure(settings.log_level, settings.log_format)
    try:
        backends.require(settings)
        app = create_app(settings)
        app.state.service.models.load_all()  # before the server starts, so that a refusal is one line
    except (BundleError, CredentialsError, KeysError, RuntimeUnavailableError, TracingUnavailableError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    if app.state.service.access.is_open and not settings.uds and settings.host not in _LOOPBACK:
        log.warning("listening on %s without FACET_KEYS_FILE: whoever reaches this port may use it", settings.host)
    # What has been loaded stays, so the garbage collector need not traverse it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    rejected = app.state.service.metrics.rejected
    options = {
        "http": connection.limited(
            settings.client_timeout, settings.max_connections, lambda reason: rejected.labels(reason).inc()
        ),
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # nothing here depends on the client's address or the scheme
        "timeout_keep_alive": settings.keep_alive,
        "timeout_graceful_shutdown": int(settings.request_timeout) + 1,
    }
    main_server = MainServer(uvicorn.Config(app, settings.host, settings.port, **options), app.state.service)
    with ExitStack() as stack:
        listeners = None
        if settings.uds:
            try:
                listener = unix_socket.bound(Path(settings.uds), int(settings.uds_mode, 8))
                listeners = [stack.enter_context(listener)]
            except unix_socket.SocketError as exc:
                print(f"error: FACET_UDS={exc}", file=sys.stderr)
                return 2
        if app.state.administration is None:
            serving = main_server.serve(listeners)
        else:
            admin_server = AdminServer(
                uvicorn.Config(app.state.administration, settings.admin_host, settings.admin_port, **options)
            )
            serving = serve(main_server, admin_server, admin_server.config.bind_socket(), listeners)
        runner = stack.enter_context(asyncio.Runner(loop_factory=main_server.config.get_loop_factory()))
        with suppress(KeyboardInterrupt):  # which uvicorn raises again after the drain
            runner.run(serving)
    return 0 if main_server.started else _NOT_STARTED


class MainServer(uvicorn.Server):
    """The server of the main port or socket. While it drains, the administration port reports that it is not ready."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.draining = True
        await super().shutdown(sockets)


class AdminServer(uvicorn.Server):
    """The server of the administration port. Lifespan and signals belong to the main server."""

    def __init__(self, config: uvicorn.Config) -> None:
        config.lifespan = "off"
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    main_server: uvicorn.Server,
    admin_server: AdminServer,
    admin_listener: socket.socket,
    listeners: list[socket.socket] | None = None,
) -> None:
    """Run both until the first has ended, so that the metrics show its drain. Without `listeners` it opens its own."""
    administration = asyncio.create_task(admin_server.serve([admin_listener]))
    try:
        await main_server.serve(listeners)
    finally:
        admin_server.should_exit = True
        await administration


if __name__ == "__main__":
    sys.exit(main())
