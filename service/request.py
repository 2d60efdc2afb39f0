"""The request context: id, deadline, phase, stage timings and resources of one request. Free of any web framework."""

from __future__ import annotations

import random
import re
import time
from contextlib import ExitStack
from enum import StrEnum
from typing import Any, Protocol

from service.telemetry import logs
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Trace

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CLIENT_LEFT = 499  # never sent; nginx logs the same


class Phase(StrEnum):
    """Where a request is. Only its RequestContext changes it."""

    BODY = "body"  # the body has not arrived completely
    HANDLER = "handler"
    RESPONSE = "respond"  # the response has begun
    DONE = "done"


class Reservation(Protocol):
    """The images that a request has taken of a key's limits (service.auth.rate_limits)."""

    def raise_to(self, images: int) -> None: ...

    def close(self, delivered: bool) -> None: ...


class RequestContext:
    """One request on its way: handlers add stages and facts, the middleware sends and reports them.

    `timeout` is in seconds from the request's arrival. `endpoint` is the path template that metrics, log and trace
    show, `model` the identity of the model that works on it, `seed` what its random numbers come from, `key` the name
    of its API key. `ignored_attributes` are the names of given values that the model does not take, in order, and
    `warning` is a sentence for the client. What is entered into `resources` is released when the request ends, however
    it ends.
    """

    def __init__(self, request_id: str, metrics: Metrics, timeout: float, trace: Trace | None = None) -> None:
        self.request_id, self.timeout, self.trace = request_id, timeout, trace
        self.endpoint = "other"
        self.model: str | None = None
        self.seed: int | None = None
        self.ignored_attributes: dict[str, None] = {}
        self.warning: str | None = None
        self.key: str | None = None
        self.images = 0
        self.phase = Phase.BODY
        self.status = 500  # until a response begins
        self.resources = ExitStack()
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}
        self._stage: str | None = None
        self._ended_in: str | None = None
        self._reservation: Reservation | None = None
        self._metrics = metrics

    def stage(self, name: str) -> Stage:
        """A context that times one stage for `Server-Timing`, the metrics, the log and the trace."""
        return Stage(self, name)

    def begin_stage(self, name: str) -> None:
        """The request is in that stage from now on."""
        self._stage = name

    def add(self, name: str, seconds: float) -> None:
        """Record `seconds` of a stage that was timed elsewhere."""
        self._stages[name] = self._stages.get(name, 0.0) + seconds
        self._metrics.stage_duration.labels(name).observe(seconds)

    def count(self, operation: str, images: int) -> None:
        """Count the faces that this request encodes, generates or edits."""
        self.images += images
        self._metrics.images.labels(operation).inc(images)

    def limit_by(self, reservation: Reservation) -> None:
        """Charge this request's images to a key; those of a request that fails are returned when it ends."""
        self._reservation = reservation
        self.resources.callback(lambda: reservation.close(self._delivered))

    def charge(self, images: int) -> None:
        """The request has so many images. Raises a Problem where its key may not have them now."""
        if self._reservation:
            self._reservation.raise_to(images)

    def body_received(self) -> None:
        """The whole body has arrived."""
        self.phase = Phase.HANDLER

    def response_started(self, status: int) -> None:
        """The response begins with that status."""
        self.phase, self.status = Phase.RESPONSE, status

    def response_complete(self) -> None:
        """The whole response was sent."""
        self.phase = Phase.DONE

    def client_left(self) -> None:
        """The client closed its connection before the response was complete."""
        self.status, self._ended_in = _CLIENT_LEFT, self.position
        self._metrics.cancelled.labels(self.position).inc()

    @property
    def position(self) -> str:
        """The stage that began last, before the response begins; outside of stages, the phase."""
        if self._stage and self.phase in (Phase.BODY, Phase.HANDLER):
            return self._stage
        return self.phase.value

    @property
    def identity(self) -> dict[str, str]:
        """The fields that every log line of this request carries."""
        ids = {"request_id": self.request_id}
        return ids | {"trace_id": self.trace.trace_id} if self.trace else ids

    @property
    def facts(self) -> dict[str, Any]:
        """Fields for the log and the trace; nothing that the client sent."""
        facts = {"model": self.model, "images": self.images, "key": self.key, "ended_in": self._ended_in}
        return {name: value for name, value in facts.items() if value}

    @property
    def stages(self) -> dict[str, float]:
        """Milliseconds of each stage."""
        return {name: round(1000 * seconds, 2) for name, seconds in self._stages.copy().items()}

    @property
    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self._started

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative afterwards."""
        return self.timeout - self.elapsed

    @property
    def server_timing(self) -> str:
        """The value of the header `Server-Timing`; empty without stages."""
        return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in self._stages.copy().items())

    def end(self, method: str) -> None:
        """Report the finished request to the metrics, the log and the trace."""
        elapsed = self.elapsed
        self._metrics.requests.labels(self.endpoint, str(self.status)).inc()
        self._metrics.request_duration.labels(self.endpoint).observe(elapsed)
        if logs.logs_access(self.endpoint, self.status):
            times = {"duration_ms": round(1000 * elapsed, 2), "stages": self.stages}
            logs.access(method, self.endpoint, self.status, times | self.facts)
        if self.trace:
            self.trace.end(self.endpoint, self.status, self.facts | {"request_id": self.request_id})

    @property
    def _delivered(self) -> bool:
        """Whether the client got all that it requested."""
        return self.phase is Phase.DONE and self.status < 400


class Stage:
    """One stage of a request. Its `attributes` go to the trace."""

    __slots__ = ("_context", "_name", "_started", "attributes")

    def __init__(self, context: RequestContext, name: str) -> None:
        self._context, self._name = context, name
        self.attributes: dict[str, Any] = {}

    def begin(self) -> Stage:
        self._context.begin_stage(self._name)
        self._started = time.perf_counter()
        return self

    def end(self, exc: BaseException | None = None, seconds: float | None = None) -> None:
        """The stage ends, by `exc` if it failed; it took `seconds`, if they were measured more closely elsewhere."""
        seconds = time.perf_counter() - self._started if seconds is None else seconds
        self._context.add(self._name, seconds)
        if trace := self._context.trace:
            trace.stage(self._name, self._started, self._started + seconds, self.attributes, exc)

    def __enter__(self) -> Stage:
        return self.begin()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, traceback: Any) -> None:
        self.end(exc)


def identifier(offered: str | None) -> str:
    """`offered` if it is 1 to 128 letters, digits, dots, dashes and underscores; else a new id."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else new_identifier()


def new_identifier() -> str:
    """32 hexadecimal digits. An id need not be unguessable, so this saves the system call that uuid4 makes."""
    return f"{random.getrandbits(128):032x}"
