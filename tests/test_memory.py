from __future__ import annotations

import pytest
import torch

from ness_cli.errors import SystemRefusedError
from ness_cli.memory import short_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_running_out_of_memory_is_refused_with_the_remedy_of_the_place(error):
    with pytest.raises(SystemRefusedError) as found, short_of_memory("smaller batches"):
        raise error
    assert found.value.remedy == "smaller batches"
    assert "\n" not in found.value.what


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("memory")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as found, short_of_memory("smaller batches"):
        raise error
    assert found.value is error


def test_the_inner_place_counts():
    with (
        pytest.raises(SystemRefusedError) as found,
        short_of_memory("outer"),
        short_of_memory("inner"),
    ):
        raise MemoryError
    assert found.value.remedy == "inner"
