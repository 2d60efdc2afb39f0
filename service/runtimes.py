"""Which runtime the settings ask for."""

from __future__ import annotations

from service.bundle import Bundle
from service.runtime import OnnxRuntime, Runtime, require_onnxruntime
from service.runtime_v2 import V2Runtime
from service.settings import REMOTE, Settings


def require(settings: Settings) -> None:
    """Raises RuntimeUnavailableError where what the runtime needs is not installed."""
    if not settings.runtime.startswith(REMOTE):
        require_onnxruntime()


def open_runtime(bundle: Bundle, settings: Settings) -> Runtime:
    """The bundle's graphs, in this process or on a server. Raises RuntimeUnavailableError and BundleError."""
    return (V2Runtime if settings.runtime.startswith(REMOTE) else OnnxRuntime)(bundle, settings)
