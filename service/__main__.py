"""python -m service: serve with the settings of the environment."""

from __future__ import annotations

import signal
import sys

import uvicorn
from pydantic import ValidationError

from service import logs, runtimes
from service.app import create_app
from service.bundle import BundleError
from service.credentials import CredentialsError
from service.runtime import RuntimeUnavailableError
from service.settings import PREFIX, Settings
from service.tracing import TracingUnavailableError


def main() -> int:
    """Serve until SIGTERM or SIGINT. A mistake in settings, bundles or installation is one line and status 2."""
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
    except (BundleError, CredentialsError, RuntimeUnavailableError, TracingUnavailableError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    # uvicorn drains on SIGTERM and then raises it again for whoever handled it before: a drain is a clean exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.request_timeout) + 1,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
