"""Facet for Python programs: encode, generate, edit and sweep faces, over HTTP or in this process.

from facet import Client

with Client("http://127.0.0.1:8000") as facet:
    facet.edit("photo.jpg", {"Smiling": 1}).save("smiling.jpg")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facet.client import AsyncClient, Client
    from facet.errors import (
        ConnectError,
        FacetError,
        ModelNotFound,
        RateLimited,
        RequestError,
        ServiceError,
        SetupError,
        TimedOut,
        TransportError,
        Unavailable,
        UnexpectedAnswer,
    )
    from facet.results import Attribute, Encoding, Face, Model, Origin, Picture, Pictures
    from facet.retries import Retries

__all__ = [
    "AsyncClient",
    "Attribute",
    "Client",
    "ConnectError",
    "Encoding",
    "Face",
    "FacetError",
    "Model",
    "ModelNotFound",
    "Origin",
    "Picture",
    "Pictures",
    "RateLimited",
    "RequestError",
    "Retries",
    "ServiceError",
    "SetupError",
    "TimedOut",
    "TransportError",
    "Unavailable",
    "UnexpectedAnswer",
]


def __getattr__(name: str) -> Any:
    # Late, so that the command line can say in one line that httpx is missing.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        homes = [importlib.import_module(f"{__name__}.{home}") for home in ("client", "errors", "results", "retries")]
    except ModuleNotFoundError as exc:
        if exc.name not in ("httpx", "anyio"):
            raise
        raise ImportError(
            "httpx is not installed: install Facet with the extra `client` (pip install '.[client]')"
        ) from exc
    return next(getattr(home, name) for home in homes if hasattr(home, name))
