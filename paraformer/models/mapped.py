"""Parameters that stay in the file of weights: its pages come where they are read, and go again
when the layer that they belong to is packed, so that a model never lies in memory twice.

The mapping is private: a parameter that is changed in place has pages of its own from then on, and
these are kept.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor
from torch.nn import Parameter

_MARK = "_version_in_file"  # attribute of a mapped tensor


def mark_mapped(values: Iterable[Tensor]) -> None:
    """These tensors lie in a mapped file, and are as they stand there; inference tensors, whose
    changes torch does not count, are taken for plain ones.
    """
    for value in values:
        if not value.is_inference():
            setattr(value, _MARK, value._version)


def is_mapped(value: Tensor) -> bool:
    """Whether a tensor lies in a mapped file, as it stands there."""
    return hasattr(value, _MARK) and getattr(value, _MARK) == value._version


def let_go(value: Tensor) -> None:
    """Give back the memory of a mapped tensor: it is read from the file where it is wanted again.

    Of any other tensor, and on systems other than Linux, nothing is given back.
    """
    if not is_mapped(value) or sys.platform != "linux":
        return
    page = mmap.PAGESIZE
    start = -(-value.data_ptr() // page) * page
    size = (value.data_ptr() + value.nbytes) // page * page - start
    if size > 0:
        advise = cast(Any, ctypes.CDLL(None).madvise)
        advise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


def in_memory(value: Tensor) -> Tensor:
    """The tensor, or a copy of one that lies in a mapped file."""
    if not is_mapped(value):
        return value
    copy = value.detach().clone()
    return Parameter(copy, value.requires_grad) if isinstance(value, Parameter) else copy
