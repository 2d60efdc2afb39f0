"""Limits on connections: how many there are, the size of a request's head, and how slow a client may be.

uvicorn has no setting for these. It accepts any number of connections, waits without end for the rest of a head, for
a body that nobody reads any more and for the reader of a response that it has buffered, and it keeps heads of any
length. This subclass of its protocol relies on internals of uvicorn 0.54, to which the installation is pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api import problems
from service.errors import Problem
from service.request import new_identifier
from service.server.parser import RequestParser

try:
    import fcntl
    import termios
except ImportError:  # Windows does not report what the kernel has buffered
    fcntl = termios = None

# Requests may carry attributes and latents in their query; a latent of a thousand numbers takes some 20 kB.
MAX_HEAD_BYTES = 65_536
# A reader is slow below this rate; even bad lines are faster.
_LEAST_BYTES_PER_SECOND = 1000
log = logging.getLogger(__name__)


def limited(
    client_timeout: float, max_connections: int, rejected: Callable[[str], None]
) -> Callable[..., LimitedProtocol]:
    """A class of connections for uvicorn's option `http`.

    `client_timeout` is in seconds. `rejected` gets the reason of each connection that is closed early:
    connections_full, slow_client, head_too_large or malformed.
    """
    return functools.partial(
        LimitedProtocol, client_timeout=client_timeout, max_connections=max_connections, rejected=rejected
    )


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    A connection above the limit gets 503, a head that does not arrive in time 408, a head that is too large 431, what
    is not HTTP 400, all as problems. A connection whose client is too slow otherwise is closed.
    """

    def __init__(
        self, *args: Any, client_timeout: float, max_connections: int, rejected: Callable[[str], None], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.parser = RequestParser(self)
        self._timeout, self._max_connections, self._rejected = client_timeout, max_connections, rejected
        self._in_head = False
        self._ignores_rest = False  # of what the client sends
        self._head_bytes = 0
        self._body_complete = True
        self._request_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    # The request: its head arrives in time and is not too large, and so does a body that nobody reads any more.

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._refuse(503, "connections_full", "too many connections are open", {"Retry-After": "1"})
        else:
            self._start_request_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_timer = _cancelled(self._request_timer)
        self._reader_timer = _cancelled(self._reader_timer)
        self.parser.close()  # else the connection, with its last body, would wait for the garbage collector
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ignores_rest:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._ignores_rest or self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            detail = f"the request's head has more than {MAX_HEAD_BYTES} bytes"
            self._refuse(431, "head_too_large", detail, sends_on=True)
        elif self._in_head or self.cycle is None or self.cycle.response_complete:
            self._start_request_timer()  # also for a client that sends nothing but line ends

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # which refuses some URLs
        self._in_head, self._body_complete = False, False
        self._request_timer = _cancelled(self._request_timer)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body_complete = True
        if self.cycle.response_complete:
            self._request_timer = _cancelled(self._request_timer)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._body_complete and not self.transport.is_closing():
            self._start_request_timer()  # for the rest of a body that nobody reads any more
        self._watch_closing()

    def send_400_response(self, msg: str) -> None:
        if self._body_complete:
            self._refuse(400, "malformed", "this is not an HTTP/1.1 request", sends_on=True)
        else:
            self._refuse(400, "malformed", "the body does not consist of chunks (Transfer-Encoding)", sends_on=True)

    def _start_request_timer(self) -> None:
        """The client has the timeout for the rest of its request, in however many parts it sends it."""
        if self._request_timer is None:
            self._request_timer = self.loop.call_later(self._timeout, self._request_timed_out)

    def _request_timed_out(self) -> None:
        self._request_timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_request_timer()  # the request before is still being answered
        elif self._in_head:
            self._refuse(408, "slow_client", f"the request's head did not arrive within {self._timeout:g} s")
        elif not self._body_complete:
            self._rejected("slow_client")
            self.transport.abort()
        else:
            self.transport.close()

    def _refuse(
        self, status: int, reason: str, detail: str, headers: dict[str, str] | None = None, sends_on: bool = False
    ) -> None:
        """Answer in the application's place, or let it finish its answer to the request before, and close.

        `sends_on` says that the client may be sending still.
        """
        self._rejected(reason)
        log.debug("connection refused with %d: %s", status, detail)
        if self.cycle is not None and not self._may_answer():
            self._ignores_rest = True
            self.cycle.keep_alive = False  # closes the connection after the answer
            if self.cycle.response_complete:
                self.transport.close()
            return
        request_id = new_identifier()
        answer = problems.response(Problem(status, detail, headers=headers), request_id)
        head = [(b"x-request-id", request_id.encode()), (b"connection", b"close"), *answer.raw_headers]
        lines = b"".join([name + b": " + value + b"\r\n" for name, value in head])
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + answer.body)
        if sends_on:
            self._close_after_client()
        else:
            self.transport.close()

    def _may_answer(self) -> bool:
        """Whether what is written now is taken for the answer to what is refused, and to nothing before that."""
        if self._body_complete:
            return self.cycle.response_complete
        if self.pipeline or self.cycle.response_started:
            return False
        self.cycle.disconnected = True  # the request whose body it is ends without an answer of its own
        self.cycle.waiting_for_100_continue = False
        self.cycle.message_event.set()
        return True

    def _close_after_client(self) -> None:
        """Closing with bytes unread would reset the connection, and the client might lose the answer."""
        self._ignores_rest = True
        _cancelled(self._request_timer)
        self._request_timer = self.loop.call_later(self._timeout, self.transport.abort)
        self.flow.resume_reading()
        self.transport.write_eof()

    # The response: the client reads it fast enough. Closing waits until what is buffered has been read.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reader_timer = _cancelled(self._reader_timer)
        self._watch_closing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_closing()

    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is not None and self.cycle.disconnected:  # and answered already
            self.transport.close()
        self._watch_closing()

    def _watch_closing(self) -> None:
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._watch_reader()

    def _watch_reader(self) -> None:
        """Abort the connection if the client reads too little of its response within the timeout."""
        if self._reader_timer is None:
            self._reader_timer = self.loop.call_later(self._timeout, self._check_reader, self._unread())

    def _check_reader(self, before: int) -> None:
        self._reader_timer = None
        if not self.transport.get_write_buffer_size():
            return
        if before - self._unread() >= _LEAST_BYTES_PER_SECOND * self._timeout:
            self._watch_reader()
        else:
            self._rejected("slow_client")
            self.transport.abort()  # closing would wait for the reader

    def _unread(self) -> int:
        """Bytes of the response that the client has not acknowledged, in the buffers of the process and of the kernel.

        The kernel takes more from the process only when a third of its own buffer, which may be megabytes, is free.
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
