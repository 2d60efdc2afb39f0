"""Host memory is page-locked where CUDA's runtime is there and willing, and works the same where not."""

from __future__ import annotations

import gc
import mmap

import numpy as np
import pytest

from service.inference import pinned_memory
from service.inference.pinned_memory import HostMemory

LAYOUT = [((3, 5), np.dtype(np.float32)), ((2, 4, 3), np.dtype(np.uint8)), ((7,), np.dtype(np.float32))]


class Library:
    """CUDA's runtime, as far as it is used."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802
        if not self.code:
            self.locked[address] = size
        return self.code

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        del self.locked[address]
        return 0


@pytest.mark.parametrize("library", [None, Library(), Library(code=35)])
def test_the_arrays_are_as_requested_and_apart(library):
    memory = HostMemory(LAYOUT, library)
    assert [(array.shape, array.dtype) for array in memory.arrays] == LAYOUT
    for value, array in enumerate(memory.arrays):
        array[...] = value
    assert all((array == value).all() for value, array in enumerate(memory.arrays))
    assert memory.locked == (library is not None and library.code == 0)


def test_all_of_it_is_locked_while_it_is_used():
    library = Library()
    memory = HostMemory(LAYOUT, library)
    ((address, size),) = library.locked.items()
    assert address % mmap.PAGESIZE == 0
    for array in memory.arrays:
        assert address <= array.ctypes.data
        assert array.ctypes.data + array.nbytes <= address + size
    del memory, array
    gc.collect()
    assert library.locked == {}


def test_a_refusal_is_logged(caplog):
    HostMemory(LAYOUT, Library(code=35))
    assert "not page-locked" in caplog.text
    assert "CUDA error 35" in caplog.text


def test_no_runtime_of_that_version_is_logged(caplog):
    assert pinned_memory.runtime_library("987.1") is None
    assert "libcudart.so.987" in caplog.text
