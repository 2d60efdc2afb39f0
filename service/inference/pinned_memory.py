"""Page-locked (pinned) host memory, from which and to which a GPU copies directly."""

from __future__ import annotations

import ctypes
import logging
import mmap
import weakref
from collections.abc import Sequence
from math import prod

import numpy as np

log = logging.getLogger(__name__)
_ALIGNMENT = 64  # bytes, a cache line

Layout = Sequence[tuple[Sequence[int], np.dtype]]


def runtime_library(cuda_version: str) -> ctypes.CDLL | None:
    """The CUDA runtime library of that version ("13.0"), loaded by ONNX Runtime; None, with a warning, if missing."""
    name = f"libcudart.so.{cuda_version.partition('.')[0]}"
    try:
        library = ctypes.CDLL(name)
    except OSError as exc:
        log.warning("host memory is not page-locked, copies to the GPU are slower: %s", exc)
        return None
    library.cudaHostRegister.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
    library.cudaHostUnregister.argtypes = [ctypes.c_void_p]
    return library


class HostMemory:
    """Arrays of the shapes and dtypes of `layout`; `locked` tells whether they are page-locked.

    They lie in one block of whole pages of their own, because CUDA locks pages, and no page twice.
    """

    def __init__(self, layout: Layout, library: ctypes.CDLL | None) -> None:
        sizes = [prod(shape) * dtype.itemsize for shape, dtype in layout]
        offsets = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)])
        block = mmap.mmap(-1, int(offsets[-1]))
        self.arrays = [
            np.frombuffer(block, dtype, prod(shape), int(offset)).reshape(shape)
            for (shape, dtype), offset in zip(layout, offsets, strict=False)
        ]
        self.locked = False
        if library is not None:
            address = self.arrays[0].ctypes.data
            code = library.cudaHostRegister(address, len(block), 0)
            self.locked = code == 0
            if self.locked:
                # The finalizer references the block, which must be unlocked before it is unmapped, except at exit.
                weakref.finalize(self, _unlock, library, address, block).atexit = False
            else:
                log.warning("host memory is not page-locked, copies to the GPU are slower: CUDA error %d", code)


def _unlock(library: ctypes.CDLL, address: int, block: mmap.mmap) -> None:
    library.cudaHostUnregister(address)
