"""Edits of photographs as users of the service get them: the same application, in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np

from service.bundle.loader import Bundle

T = TypeVar("T")
_AT_ONCE = 4  # requests, so that one is decoded while another is in a graph


class EditingError(Exception):
    """The service, or what it needs, is not to be had, or it refused a picture; the message says which."""


class Editor(Protocol):
    """What is evaluated. Pictures come encoded; attributes by name, -1 absent to 1 present."""

    def edit(self, picture: bytes, attributes: dict[str, float]) -> np.ndarray:
        """The edited picture, uint8 [H, W, 3]."""

    def sweep(self, picture: bytes, attribute: str, target: float, steps: int, side: int) -> np.ndarray:
        """The picture from t = 0 to t = 1, uint8 [steps, H, W, 3], its longest side `side` pixels."""

    def estimates(self, picture: bytes) -> tuple[dict[str, float], tuple[float, float, float, float]]:
        """What the largest face shows, by attribute, and its box: left, top, right, bottom."""


class ServiceEditor:
    """POST /v1/edit, /v1/sweep and /v1/encode of a bundle, without a server. Use it in a `with` statement.

    Edits have that `strength`; sweeps go to 1. Answers are PNG, so that what is measured is the edit and not a codec.
    Raises EditingError.
    """

    def __init__(self, bundle: Bundle, strength: float = 1.0) -> None:
        try:
            from facet import Client, FacetError
        except ImportError as exc:
            raise EditingError(str(exc)) from exc
        self._refusal = FacetError
        self._name, self._strength = bundle.manifest.name, strength
        self._directory = tempfile.TemporaryDirectory()
        # The service loads every bundle of a directory: this one alone.
        (Path(self._directory.name) / self._name).symlink_to(bundle.directory.resolve(), target_is_directory=True)
        with self._translated():
            self._client = Client.local(self._directory.name, default_model=self._name, sensitive_attributes=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._refusal as exc:
            raise EditingError(str(exc)) from exc

    def __enter__(self) -> ServiceEditor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._directory.cleanup()

    def edit(self, picture: bytes, attributes: dict[str, float]) -> np.ndarray:
        with self._translated():
            options = {"strength": self._strength, "format": "png", "experimental": True, "model": self._name}
            found = self._client.edit(picture, attributes, **options)
        return np.asarray(found.image().convert("RGB"))

    def sweep(self, picture: bytes, attribute: str, target: float, steps: int, side: int) -> np.ndarray:
        parameters = {"target": target, "start": 0, "stop": 1, "steps": steps, "layout": "frames", "size": side}
        with self._translated():
            found = self._client.sweep(
                picture, attribute, format="png", experimental=True, model=self._name, **parameters
            )
        return np.stack([np.asarray(one.image().convert("RGB")) for one in found])

    def estimates(self, picture: bytes) -> tuple[dict[str, float], tuple[float, float, float, float]]:
        with self._translated():
            face = self._client.encode(picture, model=self._name).faces[0]
        return face.attributes, face.box


def side_by_side(work: Callable[..., T], *arguments: Iterable) -> list[T]:
    """`work` of each tuple of arguments, in order, a few at once."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, *arguments))
