"""The service inside this process: the same application, started and stopped with the client, without a server."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from facet.errors import SetupError

URL = "http://local"  # never looked up
_CHECKOUT = Path(__file__).parents[1]


def application(
    bundles: str | os.PathLike[str] | None,
    weights: str | os.PathLike[str] | None,
    timeout: float | None,
    settings: dict[str, Any],
) -> Any:
    """The FastAPI application, whose models are not loaded yet. Raises SetupError.

    Directories that are not given are those of the service's own settings, or where those do not exist, the ones of the
    checkout that this package is part of.
    """
    try:
        from pydantic import ValidationError

        from service import runtimes
        from service.app import create_app
        from service.credentials import CredentialsError
        from service.keys import KeysError
        from service.runtime import RuntimeUnavailableError
        from service.settings import Settings
        from service.tracing import TracingUnavailableError
    except ImportError as exc:
        raise SetupError(f"the service cannot be imported here ({exc}): pip install '.[client,cpu]'") from exc
    unknown = sorted(set(settings) - set(Settings.model_fields))
    if unknown:
        raise SetupError(f"{', '.join(unknown)}: no such setting; they are {', '.join(Settings.model_fields)}")
    # No key is asked of this process and nothing listens, whatever the environment says to services.
    given = {"bundles": bundles, "weights": weights, "keys_file": "", "admin_port": 0} | settings
    if timeout is not None:
        given.setdefault("request_timeout", timeout)
    try:
        chosen = Settings(**{name: value for name, value in given.items() if value is not None})
        runtimes.require(chosen)
        found = {name: _found(chosen, name) for name in ("bundles", "weights")}
        return create_app(chosen.model_copy(update=found))
    except ValidationError as exc:
        first = exc.errors()[0]
        raise SetupError(f"{first['loc'][0]}={first['input']!r}: {first['msg']}") from exc
    except (CredentialsError, KeysError, RuntimeUnavailableError, TracingUnavailableError) as exc:
        raise SetupError(str(exc)) from exc


def _found(settings: Any, name: str) -> Path:
    path = getattr(settings, name)
    usual = name not in settings.model_fields_set and not path.exists()
    return _CHECKOUT / name if usual and (_CHECKOUT / name).exists() else path


class InProcess(httpx.AsyncBaseTransport):
    """Hands requests to an ASGI application. Starts it when it is entered or first used; closing lets it finish."""

    def __init__(self, app: Any) -> None:
        # A failure inside becomes the answer that a server would give.
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._app = app
        self._lifespan = AsyncExitStack()
        self._changing = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._started = self._closed = False
        self._under_way = 0

    async def __aenter__(self) -> InProcess:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Load the models, if that was not done. Raises SetupError for a bundle that is refused."""
        async with self._changing:
            if self._closed:
                raise SetupError("the client is closed")
            if self._started:
                return
            await asyncio.to_thread(_load, self._app)
            await self._lifespan.enter_async_context(self._app.router.lifespan_context(self._app))
            self._started = True

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self.start()
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._asgi.handle_async_request(request)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def aclose(self) -> None:
        """Take no more requests, finish those under way, and end the application."""
        async with self._changing:
            self._closed = True
            await self._idle.wait()
            await self._lifespan.aclose()


def _load(app: Any) -> None:
    from service.bundle import BundleError
    from service.runtime import RuntimeUnavailableError

    try:
        app.state.service.models.load_all()
    except (BundleError, RuntimeUnavailableError) as exc:
        raise SetupError(str(exc)) from exc
