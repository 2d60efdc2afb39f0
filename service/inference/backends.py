"""Selects the runtime by the settings."""

from __future__ import annotations

from service.bundle.loader import Bundle
from service.inference.onnx import OnnxRuntime, Runtime
from service.inference.remote import V2Runtime
from service.inference.session import require_onnxruntime
from service.settings import REMOTE, Settings


def require(settings: Settings) -> None:
    """Raises RuntimeUnavailableError if a package that the runtime needs is not installed."""
    if not settings.runtime.startswith(REMOTE):
        require_onnxruntime()


def open_runtime(bundle: Bundle, settings: Settings) -> Runtime:
    """The runtime of a bundle, in this process or on a server. Raises RuntimeUnavailableError and BundleError."""
    return (V2Runtime if settings.runtime.startswith(REMOTE) else OnnxRuntime)(bundle, settings)
