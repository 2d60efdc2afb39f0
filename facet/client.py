"""The two clients. Both send the calls of `facet.calls`; they differ in how they wait.

What a client sends through is a connection, with `send` and a way to close it: HTTP, or the service in this process.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio
import httpx

from facet import calls
from facet.calls import Call
from facet.errors import FacetError, translated
from facet.retries import Retries

if TYPE_CHECKING:
    from facet.bridge import Waiting
    from facet.in_process import InProcess

P = ParamSpec("P")
T = TypeVar("T")

URL_VARIABLE = "FACET_URL"
KEY_VARIABLE = "FACET_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT = 60.0
# The service knows the time limit and answers when it is over; that answer says more than a closed connection.
_GRACE = 5.0
_CONNECT_SECONDS = 10.0
_UNIX = "unix:"  # in front of the path of a Unix socket
_ANY_HOST = "http://localhost"  # in requests through a Unix socket, which need one


def _waiting(build: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A method of Client that sends what `build` describes."""

    @functools.wraps(build)
    def method(self: Client, /, *arguments: P.args, **options: P.kwargs) -> T:
        return self._send(build(*arguments, **options))

    return _described(method, build)


def _awaited(build: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    """A method of AsyncClient that sends what `build` describes."""

    @functools.wraps(build)
    async def method(self: AsyncClient, /, *arguments: P.args, **options: P.kwargs) -> T:
        # In a thread: files are read and Pillow images encoded there.
        return await self._send(await anyio.to_thread.run_sync(functools.partial(build, *arguments, **options)))

    return _described(method, build)


def _described(method: Any, build: Callable[..., Any]) -> Any:
    signature = inspect.signature(build)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    # Inside Call[...] stands what the method gives.
    returned = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__signature__ = signature.replace(
        parameters=[this, *(p.replace() for p in signature.parameters.values())], return_annotation=returned
    )
    return method


def _options(url: str, key: str | None, timeout: float | None, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """What both of httpx's clients are made with."""
    url = _ANY_HOST if _socket_path(url) else url
    sent = dict(headers or {})
    if key := key or os.environ.get(KEY_VARIABLE):
        sent.setdefault("Authorization", f"Bearer {key}")
    if timeout is None:
        return {"base_url": url, "headers": sent, "timeout": httpx.Timeout(None, connect=_CONNECT_SECONDS)}
    _check(timeout)
    sent["X-Request-Timeout"] = f"{timeout:g}"
    limits = httpx.Timeout(timeout + _GRACE, connect=min(timeout, _CONNECT_SECONDS))
    return {"base_url": url, "headers": sent, "timeout": limits}


def _check(timeout: float | None) -> None:
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout}: must be a number of seconds above 0, or None")


def _address(url: str | None) -> str:
    """Raises ValueError for what is no address of a service."""
    url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    if _socket_path(url):
        return url
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise ValueError(f"url {url}: {exc}") from exc
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"url {url}: must begin with http:// or https:// and a host, or be unix: and an absolute path")
    return url


def _socket_path(url: str) -> str | None:
    """The absolute path in `unix:/path` and `unix:///path`, None in other addresses."""
    path = url.removeprefix(_UNIX)
    return f"/{path.lstrip('/')}" if path != url and path.startswith("/") and path.strip("/") else None


class _Http:
    """Calls over HTTP. `url` is where the service should be, for errors."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http, self._url = http, url

    def send(self, call: Call[T]) -> T:
        with translated(self._url):
            response = self._http.send(call.request(self._http))
        return call.read(response)

    def close(self) -> None:
        self._http.close()


class _AsyncHttp:
    """The same to await."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http, self._url = http, url

    async def send(self, call: Call[T]) -> T:
        with translated(self._url):
            response = await self._http.send(call.request(self._http))
        return call.read(response)

    async def __aenter__(self) -> None:
        await self._http.__aenter__()

    async def aclose(self) -> None:
        await self._http.aclose()


class Client:
    """Calls that wait for their answer. May be shared by threads.

    `url` is where the service listens, `unix:/path` for a Unix socket; left out, the variable FACET_URL or else
    http://127.0.0.1:8000. `key` is for a service that needs one; left out, the variable FACET_KEY. `timeout`, in
    seconds, is for each try; the service is told and drops what is late. `headers` go with every request, `transport`
    replaces httpx's own. Close it, or use it in a `with` statement.

    Raises ValueError for a url that is none, or a timeout that is not above 0.
    """

    encode = _waiting(calls.encode)
    generate = _waiting(calls.generate)
    edit = _waiting(calls.edit)
    sweep = _waiting(calls.sweep)
    verify = _waiting(calls.verify)
    models = _waiting(calls.models)
    model = _waiting(calls.model)

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout: float | None = _TIMEOUT,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        url = _address(url)
        transport = transport or (httpx.HTTPTransport(uds=path) if (path := _socket_path(url)) else None)
        http = httpx.Client(transport=transport, **_options(url, key, timeout, headers))
        self._connect(_Http(http, url), retries)

    @classmethod
    def local(
        cls,
        bundles: str | os.PathLike[str] | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
        timeout: float | None = _TIMEOUT,
        retries: Retries | None = None,
        **settings: Any,
    ) -> Client:
        """A client of the very same service inside this process, without a server.

        `bundles` and `weights` are its directories, `settings` any other of the service's settings (docs/settings.md)
        without their prefix. Models are loaded now, in a thread of their own; closing finishes what is under way.

        Raises SetupError where the service cannot start.
        """
        from facet import bridge, local

        service = local.opened(bundles, weights, timeout, settings)
        _check(timeout)
        client = cls.__new__(cls)
        client._connect(bridge.Waiting(service), retries)
        return client

    def _connect(self, connection: _Http | Waiting, retries: Retries | None) -> None:
        self._connection, self._retries = connection, retries or Retries()

    def close(self) -> None:
        """Close connections; a local service finishes what is under way first."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call[T]) -> T:
        tried = 0
        while True:
            tried += 1
            try:
                return self._connection.send(call)
            except FacetError as exc:
                pause = self._retries.pause(exc, tried)
            time.sleep(pause)


class AsyncClient:
    """Calls to await; otherwise as `Client`. Close it with `aclose`, or use it in an `async with` statement."""

    encode = _awaited(calls.encode)
    generate = _awaited(calls.generate)
    edit = _awaited(calls.edit)
    sweep = _awaited(calls.sweep)
    verify = _awaited(calls.verify)
    models = _awaited(calls.models)
    model = _awaited(calls.model)

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout: float | None = _TIMEOUT,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url = _address(url)
        transport = transport or (httpx.AsyncHTTPTransport(uds=path) if (path := _socket_path(url)) else None)
        http = httpx.AsyncClient(transport=transport, **_options(url, key, timeout, headers))
        self._connect(_AsyncHttp(http, url), retries)

    @classmethod
    def local(
        cls,
        bundles: str | os.PathLike[str] | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
        timeout: float | None = _TIMEOUT,
        retries: Retries | None = None,
        **settings: Any,
    ) -> AsyncClient:
        """As `Client.local`, in the running event loop of asyncio. Models are loaded when the client is entered, or
        with the first call; that is where SetupError for a bundle is raised.
        """
        from facet import local

        service = local.opened(bundles, weights, timeout, settings)
        _check(timeout)
        client = cls.__new__(cls)
        client._connect(service, retries)
        return client

    def _connect(self, connection: _AsyncHttp | InProcess, retries: Retries | None) -> None:
        self._connection, self._retries = connection, retries or Retries()

    async def aclose(self) -> None:
        """Close connections; a local service finishes what is under way first."""
        await self._connection.aclose()

    async def __aenter__(self) -> AsyncClient:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _send(self, call: Call[T]) -> T:
        tried = 0
        while True:
            tried += 1
            try:
                return await self._connection.send(call)
            except FacetError as exc:
                pause = self._retries.pause(exc, tried)
            await anyio.sleep(pause)
