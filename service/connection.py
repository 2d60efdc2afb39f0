"""What a client may do to its connection: send a request's head in time and of some size, and read what it asked for.

And how many connections there are. The server itself takes any number, waits without end for the rest of a head, for a
body that nobody reads any more, and for a reader of an answer that it has buffered; and it keeps heads of any length.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service import problems
from service.calls import new_identifier
from service.door import Door
from service.problems import Problem

try:
    import fcntl
    import termios
except ImportError:  # on Windows nobody tells what waits in the kernel
    fcntl = termios = None

# Requests may carry attributes and latents in their query; a latent of a thousand numbers takes some 20 kB.
MAX_HEAD_BYTES = 65_536
# Whoever wants an answer reads faster, even over the worst of lines.
_LEAST_BYTES_PER_SECOND = 1000
log = logging.getLogger(__name__)


def guarded(
    patience: float, most: int, refused: Callable[[str], None], door: Door | None = None
) -> Callable[..., GuardedProtocol]:
    """Connections for uvicorn's `http` that bear with their clients for `patience` seconds, at most `most` to a server.

    `refused` is told why each that is given up is: connections_full, slow_client, head_too_large or malformed. At the
    `door` requests are refused that there is no room for.
    """
    return functools.partial(GuardedProtocol, patience=patience, most=most, refused=refused, door=door)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    A connection too many gets 503, a head that is late 408, and one that is too large 431, all as problems.
    """

    def __init__(
        self,
        *args: Any,
        patience: float,
        most: int,
        refused: Callable[[str], None],
        door: Door | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._patience, self._most, self._refused, self._door = patience, most, refused, door
        self._at_the_door: tuple[RequestResponseCycle, Any] | None = None
        self._receiving = False
        self._in_head = False
        self._head_bytes = 0
        self._body_complete = True
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self._most:
            self._refuse(503, "connections_full", "too many connections are open", {"Retry-After": "1"})
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_timer = _cancelled(self._request_timer)
        self._answer_timer = _cancelled(self._answer_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        self._receiving = True
        super().data_received(data)
        self._receiving = False
        if self.transport.is_closing():
            self._at_the_door = None
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "head_too_large", f"the request's head has more than {MAX_HEAD_BYTES} bytes")
        elif self._in_head or (self.cycle is None or self.cycle.response_complete):
            self._expect()  # also of one that sends nothing but line ends
        if self._at_the_door is not None:
            self._admit(*self._at_the_door)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head, self._body_complete = False, False
        self._request_timer = _cancelled(self._request_timer)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body_complete = True
        if self.cycle.response_complete:
            self._request_timer = _cancelled(self._request_timer)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Under overload, wait for the rest of what has arrived together with the head: it may be all.
        if self._receiving and self._door is not None and self._door.is_narrow(cycle.scope):
            self._at_the_door = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _admit(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Refuse what there is no room for, by hand, without a task for it; let in everything else."""
        self._at_the_door = None
        if self.transport.is_closing():
            return
        refusal = None
        # The application waits for a client that does not read what was written before.
        if cycle.keep_alive and not cycle.waiting_for_100_continue and not self.flow.write_paused:
            refusal = self._door.refuse(cycle.scope, None if cycle.more_body else bytes(cycle.body))
        if refusal is None:
            super()._start_asgi_task(cycle, app)
            return
        headers, body = refusal
        self._write(429, [*self.server_state.default_headers, *headers], body)
        cycle.response_complete = True
        self.on_response_complete()

    def _write(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        lines = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._body_complete and not self.transport.is_closing():
            self._expect()  # of a body that nobody reads any more
        self._watch_closing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_closing()

    def shutdown(self) -> None:
        super().shutdown()
        self._watch_closing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer_timer = _cancelled(self._answer_timer)
        self._watch_closing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "malformed", "this is not an HTTP/1.1 request")

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: an upgrade that is not offered is ignored (RFC 9110, section 7.8)."""

    def _expect(self) -> None:
        """From now on the client has so much time for the rest of its request, however it divides it."""
        if self._request_timer is None:
            self._request_timer = self.loop.call_later(self._patience, self._late)

    def _late(self) -> None:
        self._request_timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect()  # what was sent before is being answered
        elif self._in_head:
            self._refuse(408, "slow_client", f"the request's head did not arrive within {self._patience:g} s")
        elif not self._body_complete:
            self._refused("slow_client")
            self.transport.abort()
        else:
            self.transport.close()

    def _refuse(self, status: int, reason: str, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer by hand, since no request has come to the application, and close."""
        self._refused(reason)
        log.debug("connection refused with %d: %s", status, detail)
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # what is written now would be taken for the answer to the request before
            return
        request_id = new_identifier()
        answer = problems.response(Problem(status, detail, headers=headers), request_id)
        head = [(b"x-request-id", request_id.encode()), (b"connection", b"close"), *answer.raw_headers]
        self._write(status, head, answer.body)
        self.transport.close()

    def _watch_closing(self) -> None:
        """Closing waits until what is left has been read."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._watch_reader()

    def _watch_reader(self) -> None:
        """Give the connection up if the client reads too little of what waits for it meanwhile."""
        if self._answer_timer is None:
            self._answer_timer = self.loop.call_later(self._patience, self._look_at_reader, self._unread())

    def _look_at_reader(self, before: int) -> None:
        self._answer_timer = None
        if not self.transport.get_write_buffer_size():
            return
        if before - self._unread() >= _LEAST_BYTES_PER_SECOND * self._patience:
            self._watch_reader()
        else:
            self._refused("slow_client")
            self.transport.abort()  # closing would wait for the reader

    def _unread(self) -> int:
        """Bytes of the answer that the client has not acknowledged: ours, and the kernel's.

        The kernel takes the next of ours only when a third of its own, which may be megabytes, is gone.
        """
        kernel = bytes(4)
        if fcntl is None:
            return self.transport.get_write_buffer_size()
        with contextlib.suppress(OSError, ValueError):  # not a TCP socket, or closed already
            kernel = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, kernel)
        return self.transport.get_write_buffer_size() + int.from_bytes(kernel, sys.byteorder)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
