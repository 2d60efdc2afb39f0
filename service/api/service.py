"""The service behind the HTTP interface: the pipeline, who may use it, and how handlers get at both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.auth.access import Access
from service.pipeline.pipeline import Pipeline
from service.request import RequestContext


@dataclass(kw_only=True)
class Service(Pipeline):
    """The pipeline as a server offers it. While it is `draining`, what has begun is finished."""

    access: Access
    draining: bool = False

    async def is_ready(self) -> bool:
        """Whether it takes work now."""
        return self.ready and not self.draining and await self.models.ready()


# Coroutines, although they wait for nothing: FastAPI runs plain functions in a thread, and a request would wait for it.
async def _service(request: Request) -> Service:
    return request.app.state.service


async def _context(request: Request) -> RequestContext:
    return request.state.context


async def _admitted_context(request: Request) -> RequestContext:
    """The context of a request that may have work done.

    Raises Problem 401, 403, 413 or 429, before anything of the body is read.
    """
    context = request.state.context
    request.app.state.service.access.admit(request.headers, context)
    return context


Shared = Annotated[Service, Depends(_service)]
Current = Annotated[RequestContext, Depends(_context)]
Admitted = Annotated[RequestContext, Depends(_admitted_context)]
