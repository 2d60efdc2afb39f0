"""The service's pipeline inside this process: its settings, directories, and what must be installed for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facet.errors import SetupError

if TYPE_CHECKING:
    from facet.in_process import InProcess

_CHECKOUT = Path(__file__).parents[1]


def opened(
    bundles: str | os.PathLike[str] | None,
    weights: str | os.PathLike[str] | None,
    timeout: float | None,
    settings: dict[str, Any],
) -> InProcess:
    """The service, whose models are not loaded yet. Raises SetupError.

    Directories that are not given are those of the service's own settings, or where those do not exist, the ones of the
    checkout that this package is part of.
    """
    try:
        from prometheus_client import CollectorRegistry
        from pydantic import ValidationError

        from facet.in_process import InProcess
        from service.errors import RuntimeUnavailableError, rule_of
        from service.inference import backends
        from service.pipeline.pipeline import Pipeline
        from service.provenance.c2pa import CredentialsError
        from service.settings import Settings
        from service.telemetry import tracing
        from service.telemetry.metrics import Metrics
    except ImportError as exc:
        raise SetupError(f"the service cannot be imported here ({exc}): pip install '.[client,cpu]'") from exc
    unknown = sorted(set(settings) - set(Settings.model_fields))
    if unknown:
        raise SetupError(f"{', '.join(unknown)}: no such setting; they are {', '.join(Settings.model_fields)}")
    if keys := settings.get("keys_file"):
        raise SetupError(f"keys_file={keys!r}: no key is needed in this process; give it to a service")
    # Nothing listens here, whatever the environment says to services.
    given = {"bundles": bundles, "weights": weights, "admin_port": 0} | settings
    if timeout is not None:
        given.setdefault("request_timeout", timeout)
    try:
        chosen = Settings(**{name: value for name, value in given.items() if value is not None})
        backends.require(chosen)
        chosen = chosen.model_copy(update={name: _found(chosen, name) for name in ("bundles", "weights")})
        traces = tracing.configured(chosen)
        return InProcess(Pipeline.of(chosen, backends.open_runtime, Metrics(CollectorRegistry())), timeout, traces)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise SetupError(f"{first['loc'][0]}={first['input']!r}: {rule_of(first)}") from exc
    except (CredentialsError, RuntimeUnavailableError, tracing.TracingUnavailableError) as exc:
        raise SetupError(str(exc)) from exc


def _found(settings: Any, name: str) -> Path:
    path = getattr(settings, name)
    usual = name not in settings.model_fields_set and not path.exists()
    return _CHECKOUT / name if usual and (_CHECKOUT / name).exists() else path
