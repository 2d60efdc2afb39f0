"""The short way to the calls that carry the load: past the framework's routing, to the same handlers.

FastAPI matches routes one by one, opens two exit stacks and resolves dependencies for every request, a third of what a
generated face costs in Python. Handlers that take nothing but the request need none of it. Their routes stay with the
framework too, which describes them and answers other methods.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send


class Shortcut:
    """Calls the endpoints of `routes` directly: coroutine functions from a Request to a Response, for POST.

    Whatever they raise is left to the middleware around this one, and everything else goes on to `app`.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[Route]) -> None:
        self._app, self._routes = app, {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # whose template names the request in metrics and logs
        response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)
