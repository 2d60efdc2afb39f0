"""Calls answered by the service's pipeline in this process, without HTTP."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote

from facet import answers, errors
from facet.calls import JSON, Call
from facet.errors import SetupError
from service.api.schemas import EncodeResponse, ModelResponse, ModelsResponse, PicturesResponse, VerifyResponse
from service.bundle.manifest import BundleError
from service.errors import DeadlineError, Problem, RuntimeUnavailableError, translate
from service.inference.model import Model
from service.pipeline import parameters
from service.pipeline.edit import edit_picture
from service.pipeline.encode import encode_picture
from service.pipeline.files import STILL, FileOptions
from service.pipeline.generate import generate_faces
from service.pipeline.parameters import EditParameters, EncodeParameters, GenerateParameters, SweepParameters
from service.pipeline.pictures import Pictures
from service.pipeline.pipeline import Pipeline
from service.pipeline.sweep import sweep_face
from service.pipeline.verify import verify_picture
from service.request import RequestContext
from service.telemetry.tracing import Tracing

T = TypeVar("T")


class InProcess:
    """Answers calls within `timeout` seconds each, at most the pipeline's own limit; None leaves it at that.

    It starts when it is entered or first used. Closing it finishes what is under way.
    """

    def __init__(self, pipeline: Pipeline, timeout: float | None = None, tracing: Tracing | None = None) -> None:
        self.pipeline, self._tracing = pipeline, tracing
        self._timeout = min(timeout or math.inf, pipeline.settings.request_timeout)
        self._running = AsyncExitStack()
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
            try:
                await asyncio.to_thread(self.pipeline.models.load_all)
            except (BundleError, RuntimeUnavailableError) as exc:
                raise SetupError(str(exc)) from exc
            if self._tracing:
                self._running.push_async_callback(asyncio.to_thread, self._tracing.close)
            await self._running.enter_async_context(self.pipeline.running())
            self._started = True

    async def send(self, call: Call[T]) -> T:
        """The result of a call. Raises SetupError and ServiceError."""
        await self.start()
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._answer(call)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def aclose(self) -> None:
        """Take no more calls, finish those under way, and end the pipeline."""
        async with self._changing:
            self._closed = True
            await self._idle.wait()
            await self._running.aclose()

    async def _answer(self, call: Call[T]) -> T:
        trace, status = self._tracing.begin(call.method, {}) if self._tracing else None, 200
        with self.pipeline.request(self._timeout, trace) as context:
            try:
                async with asyncio.timeout(context.remaining) as deadline:
                    return await self._run(call, context)
            except Exception as exc:
                if isinstance(exc, TimeoutError) and deadline.expired():
                    exc = DeadlineError(f"the {self._timeout:g} s for this call were over")
                problem = translate(exc)
                status = problem.status
                retry_after = problem.headers.get("Retry-After", "")
                raise errors.service_error(
                    status, problem.detail, problem.errors, context.request_id, retry_after
                ) from exc
            finally:
                if trace:
                    trace.end(call.path, status, context.facts | {"request_id": context.request_id})

    async def _run(self, call: Call[T], context: RequestContext) -> T:
        pipeline, values = self.pipeline, call.values()
        if call.image is not None and len(call.image) > (most := pipeline.settings.max_body_bytes):
            rule = f"at most {most} are accepted"
            raise Problem(413, f"image: has {len(call.image)} bytes; {rule}", [{"field": "image", "rule": rule}])
        match call.path.removeprefix("/v1/").split("/"):
            case ["generate"]:
                params = parameters.parse(GenerateParameters, values)
                return _pictures(call, await generate_faces(pipeline, context, params, _files(call, params)))
            case ["edit"]:
                params = parameters.parse(EditParameters, values)
                return _pictures(call, await edit_picture(pipeline, context, params, call.image, _files(call, params)))
            case ["sweep"]:
                params = parameters.parse(SweepParameters, values)
                return _pictures(call, await sweep_face(pipeline, context, params, call.image, _files(call, params)))
            case ["encode"]:
                params = parameters.parse(EncodeParameters, values)
                body = EncodeResponse.of(await encode_picture(pipeline, context, params, call.image))
            case ["verify"]:
                body = VerifyResponse.of(await verify_picture(pipeline, context, call.image))
            case ["models"]:
                body = ModelsResponse(models=[self._described(model) for model in pipeline.models.all()])
            case ["models", name]:
                body = self._described(pipeline.models.get(unquote(name)))
        return call.parse(body.model_dump())

    def _described(self, model: Model) -> ModelResponse:
        return ModelResponse.of(model, self.pipeline.settings.default_model)


def _files(call: Call[Any], params: GenerateParameters | EditParameters | SweepParameters) -> FileOptions:
    """One file of the accepted format, a photograph's own for `image/*`; a file for each picture where JSON is."""
    if call.accept == JSON:
        return FileOptions.of(params)
    kind = call.accept.removeprefix("image/")
    return FileOptions(STILL if kind == "*" else (kind,), params.quality, as_one=True)


def _pictures(call: Call[T], found: Pictures) -> T:
    if call.accept == JSON:
        return call.parse(PicturesResponse.of(found).model_dump())
    (picture,) = found.pictures
    return answers.one_picture(picture.data, picture.media_type, found.model, found.seed)
