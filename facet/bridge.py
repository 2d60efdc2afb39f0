"""An event loop in a thread of its own, for callers that wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from facet.calls import Call
    from facet.in_process import InProcess

T = TypeVar("T")


class Bridge:
    """Runs coroutines of `resource`, which it enters at once and closes with itself; raises what entering it raises."""

    def __init__(self, resource: AbstractAsyncContextManager[Any]) -> None:
        self._resource = resource
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a program that never closes its client still ends.
        self._thread = threading.Thread(target=self._loop.run_forever, name="facet", daemon=True)
        self._thread.start()
        self._closing = threading.Lock()
        try:
            self._wait(resource.__aenter__())
        except BaseException:
            self._end_loop()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises what it raises, and RuntimeError once closed."""
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the client is closed")
        return self._wait(work)

    def close(self) -> None:
        """Close the resource, and end the loop and its thread."""
        with self._closing:
            if not self._loop.is_closed():
                try:
                    self._wait(self._resource.__aexit__(None, None, None))
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
        self._loop.run_until_complete(_cancel_all())
        self._loop.close()


class Waiting(Bridge):
    """The service in this process, for callers that wait. Raises SetupError where it cannot start."""

    def __init__(self, service: InProcess) -> None:
        super().__init__(service)
        self._service = service

    def send(self, call: Call[T]) -> T:
        """The result of a call. Raises SetupError and ServiceError."""
        return self.run(self._service.send(call))


async def _cancel_all() -> None:
    """Cancel what still runs in this loop, and end its threads."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
