"""The service as a Ray Serve application: the same FastAPI application and batcher in each replica, replicas by Ray.

    serve run facet_ray.serve:application replicas=4

Settings come from `FACET_...` variables of the replicas. Their queues refuse what is too much, so Ray's own limit on
requests under way lies above them.
"""

# No postponed annotations here: Ray looks at the class that `application` takes.

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.app import create_app
from service.settings import Settings
from service.telemetry import logs


class Options(BaseModel):
    """What `serve run` may say; with `max_replicas` above `replicas` Ray scales between the two."""

    model_config = ConfigDict(extra="forbid")

    replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=0, ge=0)
    cpus: float = Field(default=1, ge=0, description="cores that Ray sets aside for a replica")
    gpus: float = Field(default=0, ge=0)
    variables: dict[str, str] = Field(default={}, description="added to the environment of the replicas")
    target_requests: float = Field(default=32, gt=0, description="under way in a replica; above, Ray adds one")


class _OneRequestId:
    """Ray's proxy gives each request the id that we then take, and puts it on the response: once is enough."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["x-request-id"]
            await send(message)

        await self._app(scope, receive, without)


def _service() -> FastAPI:
    """Built in the replica. A bundle that is refused fails its start with the reason."""
    # Nobody listens on another port here, so administration stays with the rest.
    settings = Settings().model_copy(update={"admin_port": 0})
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    app.add_middleware(_OneRequestId)
    app.state.service.models.load_all()  # before the replica counts as started
    return app


@serve.ingress(_service)
class _Replica:
    """Answers Ray's own question after its health as `/healthz` does."""

    app: FastAPI  # the wrapper's, of what `_service` built

    async def check_health(self) -> None:
        if dead := self.app.state.service.models.dead():
            raise RuntimeError(f"the worker of {dead} died")


def application(options: Options) -> Application:
    """For `serve run`, configuration files of Ray Serve, and `serve.run`."""
    settings = Settings()
    scale: dict[str, Any] = {"num_replicas": options.replicas}
    if options.max_replicas > options.replicas:
        scale = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=options.replicas,
                max_replicas=options.max_replicas,
                target_ongoing_requests=options.target_requests,
            )
        }
    deployment = serve.deployment(
        _Replica,
        name="facet",
        max_ongoing_requests=2 * settings.queue_images,
        graceful_shutdown_timeout_s=settings.request_timeout + 1,
        ray_actor_options={
            "num_cpus": options.cpus,
            "num_gpus": options.gpus,
            "runtime_env": {"env_vars": options.variables},
        },
        **scale,
    )
    return deployment.bind()
