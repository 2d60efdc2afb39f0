"""Lets a client that waits use a transport that is awaited, on an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx

T = TypeVar("T")


class Bridge(httpx.BaseTransport):
    """Enters `inner` at once and closes it with itself; raises what entering it raises."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a program that never closes its client still ends.
        self._thread = threading.Thread(target=self._loop.run_forever, name="facet", daemon=True)
        self._thread.start()
        self._closing = threading.Lock()
        try:
            self._wait(inner.__aenter__())
        except BaseException:
            self._end_loop()
            raise

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._loop.is_closed():
            raise RuntimeError("the client is closed")
        return self._wait(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        # Read here: the stream is one to await, and its reader waits.
        body = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    def close(self) -> None:
        with self._closing:
            if not self._loop.is_closed():
                try:
                    self._wait(self._inner.__aexit__(None, None, None))
                finally:
                    self._end_loop()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # interrupted: the service drops what nobody waits for
            raise

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(_leave_nothing())
        self._loop.close()


async def _leave_nothing() -> None:
    """Cancel what still runs in this loop, and end its threads."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
