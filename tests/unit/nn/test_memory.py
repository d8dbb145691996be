"""Errors for want of memory are told from others, on each device."""

from __future__ import annotations

import pytest
import torch

from paraformer.nn.memory import lacks_memory


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough values"), False),
    ],
)
def test_only_want_of_memory_is_that(error, lacks):
    assert lacks_memory(error) is lacks


def test_the_cpu_says_it_in_these_words():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert lacks_memory(raised.value)
