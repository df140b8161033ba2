"""Memory that runs out is recognised, whoever says it."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from broadbase.core.errors import out_of_memory


def test_a_tensor_too_large_for_the_machine_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as result:
        torch.empty(2**50)
    assert out_of_memory(result.value)


def test_an_array_too_large_for_the_machine_is_out_of_memory() -> None:
    with pytest.raises(MemoryError) as result:
        np.empty(2**60, dtype=np.uint8)
    assert out_of_memory(result.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ..."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libarrow.so.2600: failed to map segment from shared object"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_what_libraries_say(error: Exception) -> None:
    assert out_of_memory(error)
    wrapped = RuntimeError("a worker failed")
    wrapped.__cause__ = error
    assert out_of_memory(wrapped)


def test_other_errors_are_not() -> None:
    shapes = RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)")
    assert not out_of_memory(shapes)
    assert not out_of_memory(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert not out_of_memory(ValueError("out of memory"))
